"""The commands open a GGUF file as they open the folder that it was made of."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, pre_tokenizers

import jax_transformer as jt
import torch_reference as tr
from jax_transformer.config import Sampling
from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.gguf import companions
from jax_transformer.convert.gguf.blocks import BLOCKS
from jax_transformer.convert.gguf.file import read_gguf
from jax_transformer.convert.gguf.tokenizer_writer import tokenizer_metadata
from jax_transformer.convert.pretrained import convert
from parity_tests.cli.test_commands import run
from parity_tests.gguf.families import save_model
from parity_tests.gguf.files import Q8_0, Tensor, metadata_of, pack, tensors_of
from parity_tests.gguf.test_tokenizer import PRE, TEXTS, original
from parity_tests.hf.bases import SMALL
from parity_tests.hf.checkpoints import transformers

MESSAGES = [{"role": "user", "content": "The quick fox"}]
TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"


def stream_text(package: Any) -> Any:
    return import_module(f"{package.__name__}.generate.text").stream_text


def folder(path: Path, **keys: Any) -> Path:
    """A folder of Hugging Face with a tokenizer, a chat template and two tokens that end a text."""
    save_model("text", path, source=("llama", SMALL | {"vocab_size": 425, "hidden_size": 32} | keys))
    (path / "tokenizer.json").write_text(original("smollm").to_str())
    settings = {"bos_token": "<|start|>", "eos_token": {"content": "<|end|>"}, "chat_template": TEMPLATE}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    (path / "generation_config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": [1, 7]}))
    return path


@pytest.mark.parametrize("package", [jt, tr])
def test_a_file_continues_texts_and_chats_as_its_folder(package: Any, tmp_path: Path):
    source = folder(tmp_path / "hf")
    convert(source, tmp_path / "model.gguf")
    for prompt in ("The quick fox", MESSAGES):
        texts = [
            "".join(stream_text(package)(path, prompt, Sampling(temperature=0.0), 12))
            for path in (source, tmp_path / "model.gguf")
        ]
        assert texts[0] == texts[1] != ""


def test_a_tokenizer_comes_back_byte_by_byte(tmp_path: Path):
    source = folder(tmp_path / "hf")
    convert(source, tmp_path / "model.gguf")
    assert read_gguf(tmp_path / "model.gguf").metadata["tokenizer.ggml.pre"] == "smollm"
    files = companions(tmp_path / "model.gguf")
    assert files["tokenizer.json"] == (source / "tokenizer.json").read_bytes()
    assert files["chat_template.jinja"].decode() == TEMPLATE
    assert json.loads(files["generation_config.json"]) == {"bos_token_id": 0, "eos_token_id": [1, 7]}
    named = {"bos_token": "<|start|>", "eos_token": "<|end|>"}
    assert named.items() <= json.loads(files["tokenizer_config.json"]).items()


@pytest.mark.parametrize("pre", [*PRE, "other"])
def test_the_keys_of_llama_cpp_are_written_where_they_say_the_same(pre: str, tmp_path: Path):
    """Without the whole tokenizer.json the same tokenizer is rebuilt from them; one that is of no kind of theirs has none."""
    backend = original("smollm" if pre == "other" else pre)
    if pre == "other":
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
    keys = tokenizer_metadata({"tokenizer.json": backend.to_str().encode()}, vocab_size=430)
    assert keys.pop("tokenizer.huggingface.json") == backend.to_str()
    if pre == "other":
        assert keys == {}
        return
    assert (keys["tokenizer.ggml.pre"], len(keys["tokenizer.ggml.tokens"])) == (pre, 430)
    (tmp_path / "x.gguf").write_bytes(pack({"general.architecture": "llama"} | keys, {}))
    again = Tokenizer.from_str(companions(tmp_path / "x.gguf")["tokenizer.json"].decode())
    assert again.get_vocab() == backend.get_vocab()
    for text in TEXTS:
        assert again.encode(text).ids == backend.encode(text).ids


def test_the_commands_take_the_file(tmp_path: Path):
    source = folder(tmp_path / "hf")
    done = run("convert", source, tmp_path / "model.gguf")
    assert done.returncode == 0, done.stderr
    done = run("inspect", tmp_path / "model.gguf")
    assert done.returncode == 0, done.stderr
    assert "blk.0.attn_q.weight and 2 more" in done.stdout
    assert "token_embd.weight" in done.stdout
    done = run("verify", tmp_path / "hf", tmp_path / "model.gguf", "--frameworks", "jax", "torch")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("generate", tmp_path / "model.gguf", "--prompt", "The fox", "--max-new-tokens", "3", "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The fox")
    done = run("inspect", tmp_path / "model.gguf", "d_model=3")
    assert done.returncode == 2
    assert "is a GGUF file, whose config takes no changes; got d_model=3" in done.stderr


def in_blocks(path: Path, source: Path) -> None:
    """The folder's model with every matrix in Q8_0."""
    tensors: dict[str, Tensor] = {}
    config = json.loads((source / "config.json").read_text())
    for name, (kind, shape, content) in tensors_of(source, "llama", (4, 2)).items():
        values = np.frombuffer(content, np.float32).reshape(-1, 32) if len(shape) == 2 else None
        tensors[name] = (kind, shape, content)
        if values is not None:
            scale = np.abs(values).max(axis=1, keepdims=True) / 127
            raw = np.concatenate(
                [scale.astype("<f2").view(np.uint8), np.round(values / scale).astype(np.int8).view(np.uint8)], 1
            )
            assert raw.shape[1] == BLOCKS["Q8_0"].num_bytes
            tensors[name] = (Q8_0, shape, raw.tobytes())
    metadata = metadata_of(transformers.LlamaConfig.from_dict(config), "llama")
    path.write_bytes(pack(metadata | {"tokenizer.huggingface.json": (source / "tokenizer.json").read_text()}, tensors))


def test_a_quantised_file_is_opened_where_that_is_asked_for(tmp_path: Path):
    source = folder(tmp_path / "hf", intermediate_size=64)
    in_blocks(tmp_path / "q8.gguf", source)
    convert(tmp_path / "q8.gguf", tmp_path / "ours", dequantize=True)
    generate = ("generate", tmp_path / "q8.gguf", "--prompt", "The fox", "--max-new-tokens", "3")
    for refused in (generate, ("verify", tmp_path / "q8.gguf", tmp_path / "ours")):
        done = run(*refused)
        assert done.returncode == 2
        assert "--dequantize" in done.stderr
        done = run(*refused, "--dequantize")
        assert done.returncode == 0, done.stdout + done.stderr
    assert run("inspect", tmp_path / "q8.gguf").returncode == 0


def test_a_file_without_a_tokenizer_says_what_to_do(tmp_path: Path):
    save_model("llama", tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "model.gguf")
    for package in (jt, tr):
        with pytest.raises(
            WeightsError, match=r"has no tokenizer, neither .*; convert it to a folder and put the tokenizer\.json"
        ):
            stream_text(package)(tmp_path / "model.gguf", "a", Sampling(), 3)


WRONG = {"no JSON": "{", "no tokenizer": "{}"}


@pytest.mark.parametrize("case", WRONG)
def test_a_damaged_tokenizer_json_is_refused(case: str, tmp_path: Path):
    (tmp_path / "x.gguf").write_bytes(pack({"general.architecture": "llama", "tokenizer.huggingface.json": WRONG[case]}, {}))
    with pytest.raises(WeightsError, match="its tokenizer is damaged"):
        companions(tmp_path / "x.gguf")
