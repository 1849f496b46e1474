"""Whole folders: shards, tokenizers, both matrices of a tied model, old spellings, memory, sharded loading, the command."""

import json
import shutil
import tracemalloc
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jax_transformer.convert.hf import FAMILY
from jax_transformer.convert.hf.files import COMPANIONS
from jax_transformer.convert.hub import open_weights, write_weights
from jax_transformer.convert.pretrained import convert
from jax_transformer.nn.params import get_params
from parity_tests.cli.test_commands import run
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import (
    assert_same_tensors,
    our_inputs,
    reload,
    save,
    their_logits,
    torch,
)
from parity_tests.tolerances import FLOAT32_MODEL, relative_error


def logits(folder: Path, case: str) -> np.ndarray:
    import torch_reference as tr

    model = tr.load_pretrained(folder)
    with torch.no_grad():
        return model(*map(torch.from_numpy, our_inputs(model, case)))[0].numpy()


def rename(folder: Path, name) -> None:
    """Gives every tensor another name; None leaves it out, a list of two stores it twice."""
    tensors = {}
    for old, array in open_weights(folder).tensors():
        new = name(old)
        tensors |= dict.fromkeys([] if new is None else [new] if isinstance(new, str) else new, array)
    specs = {name: (array.shape, array.dtype) for name, array in tensors.items()}
    write_weights(folder / "new", specs, tensors.items())
    (folder / "new" / "model.safetensors").replace(folder / "model.safetensors")
    shutil.rmtree(folder / "new")


def test_shards_and_tokenizers_travel(tmp_path: Path):
    save("llama", tmp_path / "hf")
    for name in {pattern.replace("*", "3") for pattern in COMPANIONS} - {"generation_config.json"}:
        (tmp_path / "hf" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "hf" / name).write_text("{}")
    convert(tmp_path / "hf", tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", format="hf", max_shard_bytes=8000)
    assert (tmp_path / "back" / "model.safetensors.index.json").is_file()
    assert_same_tensors(tmp_path / "hf", tmp_path / "back")
    left, right = ({file.relative_to(tmp_path / name) for file in (tmp_path / name).rglob("*")} for name in ("hf", "back"))
    assert left - right == {Path("model.safetensors")}
    values = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (values["bos_token_id"], values["eos_token_id"]) == (1, 2)
    convert(tmp_path / "ours", tmp_path / "back", format="hf", overwrite=True)
    model, report = reload(tmp_path / "back")
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert relative_error(logits(tmp_path / "ours", "llama"), their_logits(model, "llama")) < FLOAT32_MODEL


@pytest.mark.parametrize("case", ["llama, tied", "t5, 1.1", "mt5"])
def test_a_second_copy_of_a_tied_matrix_is_read_over_and_another_matrix_unties(case: str, tmp_path: Path):
    theirs = save(case, tmp_path / "hf")
    wanted = their_logits(theirs, case)
    _, table = FAMILY[CASES[case][0]].head
    rename(tmp_path / "hf", lambda name: [name, "lm_head.weight"] if name == table else name)
    assert relative_error(logits(tmp_path / "hf", case), wanted) < FLOAT32_MODEL
    tensors = dict(open_weights(tmp_path / "hf").tensors())
    tensors["lm_head.weight"] = tensors["lm_head.weight"][::-1]
    specs = {name: (array.shape, array.dtype) for name, array in tensors.items()}
    (tmp_path / "hf" / "model.safetensors").unlink()
    write_weights(tmp_path / "new", specs, tensors.items())
    (tmp_path / "new" / "model.safetensors").rename(tmp_path / "hf" / "model.safetensors")
    assert relative_error(logits(tmp_path / "hf", case), wanted[..., ::-1]) < FLOAT32_MODEL
    model, _ = reload(tmp_path / "hf")
    assert relative_error(their_logits(model, case), wanted[..., ::-1]) < FLOAT32_MODEL


FREQUENCIES = "model.layers.2.self_attn.rotary_emb.inv_freq"
OLD = {
    "no prefix": ("gpt2", lambda name: name.removeprefix("transformer.")),
    "saved masks": ("gpt2", lambda name: [name, "transformer.h.0.attn.bias"] if name.endswith("ln_f.bias") else name),
    "gamma": ("bert", lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma")),
    "beta": ("bert", lambda name: name.replace("LayerNorm.bias", "LayerNorm.beta")),
    "saved frequencies": ("llama", lambda name: [name, FREQUENCIES] if "model.norm" in name else name),
}


@pytest.mark.parametrize("case", OLD)
def test_old_names_are_read(case: str, tmp_path: Path):
    family, name = OLD[case]
    wanted = their_logits(save(family, tmp_path / "hf"), family)
    rename(tmp_path / "hf", name)
    assert relative_error(logits(tmp_path / "hf", family), wanted) < FLOAT32_MODEL


def test_an_encoder_saved_without_a_head_is_read(tmp_path: Path):
    """BERT's ``BertModel``: no prefix, no prediction of masked tokens; a caller that gives it another head reads the rest."""
    from jax_transformer import config
    from jax_transformer.convert.hf import FAMILY, open_tensors
    from jax_transformer.convert.hf.files import read_values
    from torch_reference.models import abstract_model

    theirs = save("bert", tmp_path / "hf")
    theirs.bert.save_pretrained(tmp_path / "bare")
    c = FAMILY["bert"].read_config(read_values(tmp_path / "bare"), "test")
    c = c.model_copy(update={"head": config.ClassifierHead(num_classes=2)})
    shapes = {name: tuple(one.shape) for name, one in abstract_model(c).state_dict().items() if not name.startswith("head.")}
    _, view = open_tensors((c, {}), FAMILY["bert"], open_weights(tmp_path / "bare"), lambda _: shapes)
    assert set(view) == set(shapes)
    wanted = theirs.bert.state_dict()["encoder.layer.1.intermediate.dense.weight"].numpy()
    np.testing.assert_array_equal(view.read("stack.layers.1.ffn.up_proj.weight"), wanted)


def test_memory_is_bounded_by_two_tensors(tmp_path: Path):
    """A checkpoint of many times the bound, both ways; the largest tensors are fused, so both sides of a row are held."""
    from jax_transformer import config
    from jax_transformer.convert.hf import FAMILY, HubSource, open_hf, write_folder

    layers, width = 12, 512
    values = {"vocab_size": 64, "hidden_size": width, "intermediate_size": width, "num_hidden_layers": layers}
    values |= {"num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 32}
    c = FAMILY["phi3"].read_config(values, "test")
    assert isinstance(c, config.Decoder)
    kernels = [*(f"attn.{name}_proj" for name in "qkvo"), *(f"ffn.{name}_proj" for name in ("gate", "up", "down"))]
    shapes = {f"stack.layers.{i}.{name}.weight": (width, width) for i in range(layers) for name in kernels}
    shapes |= {f"stack.layers.{i}.{name}.weight": (width,) for i in range(layers) for name in ("attn_norm", "ffn_norm")}
    shapes |= {"embed.weight": (64, width), "final_norm.weight": (width,), "head.weight": (64, width)}
    specs = {name: (shape, np.dtype(np.float32)) for name, shape in shapes.items()}
    row = 3 * width * width * 4
    tracemalloc.start()
    try:
        source = HubSource(specs, lambda name: np.ones(shapes[name], np.float32))
        write_folder(tmp_path / "hf", c, FAMILY["phi3"], source)
        assert tracemalloc.get_traced_memory()[1] < 2 * row + 2**21
        tracemalloc.reset_peak()
        opened, view = open_hf(tmp_path / "hf", lambda _: shapes)
        write_weights(tmp_path / "ours", specs, view.tensors())
        assert tracemalloc.get_traced_memory()[1] < 2 * row + 2**21
    finally:
        tracemalloc.stop()
    assert opened == c
    assert sum(file.stat().st_size for file in (tmp_path / "hf").iterdir()) > 10 * row


def test_a_killed_or_refused_export_leaves_nothing(tmp_path: Path):
    save("gemma2", tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "ours")
    from jax_transformer.config.errors import ConfigError

    with pytest.raises(ConfigError, match="llama cannot express"):
        convert(tmp_path / "ours", tmp_path / "back", format="hf", family="llama")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "ours"]


def test_the_command_converts_both_ways(tmp_path: Path):
    save("qwen3", tmp_path / "hf")
    done = run("convert", tmp_path / "hf", tmp_path / "ours")
    assert done.returncode == 0, done.stderr
    done = run("convert", tmp_path / "ours", tmp_path / "back", "--format", "hf", "--family", "qwen3")
    assert done.returncode == 0, done.stderr
    assert_same_tensors(tmp_path / "hf", tmp_path / "back")
    done = run("convert", tmp_path / "ours", tmp_path / "again", "--family", "qwen3")
    assert done.returncode == 2
    assert "only --format hf and gguf have families" in done.stderr


def test_a_cast_is_of_weights_and_computation(tmp_path: Path):
    import torch_reference as tr

    save("llama", tmp_path / "hf", dtype="bfloat16")
    stored, cast = (tr.load_pretrained(tmp_path / "hf", dtype=dtype) for dtype in (None, "float32"))
    assert (stored.config.dtype.param, stored.config.dtype.compute) == ("bfloat16", "bfloat16")
    assert (cast.config.dtype.param, cast.config.dtype.compute) == ("float32", "float32")


def test_every_process_reads_its_own_part_of_fused_tensors(tmp_path: Path):
    import jax_transformer as jt

    save("gpt2", tmp_path / "hf")
    whole = get_params(jt.load_pretrained(tmp_path / "hf"))
    mesh = Mesh(np.array(jax.devices()[:2]), ("x",))

    def halves(shape: tuple[int, ...]) -> NamedSharding:
        even = next((i for i, size in enumerate(shape) if size % 2 == 0), None)
        return NamedSharding(mesh, PartitionSpec(*("x" if i == even else None for i in range(len(shape)))))

    shardings = {path: halves(array.shape) for path, array in whole.items()}
    parts = get_params(jt.load_pretrained(tmp_path / "hf", shardings=shardings))
    for path, array in whole.items():
        assert np.asarray(parts[path]).tobytes() == np.asarray(array).tobytes(), path
    kernel = parts["stack.slots.0.attn.q_proj.kernel"]
    assert kernel.addressable_shards[0].data.size < kernel.size


def test_two_dtypes_are_refused_unless_one_is_chosen(tmp_path: Path):
    import torch_reference as tr
    from jax_transformer.config.errors import WeightsError

    save("llama", tmp_path / "hf")
    tensors = dict(open_weights(tmp_path / "hf").tensors())
    tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(np.float16)
    specs = {name: (array.shape, array.dtype) for name, array in tensors.items()}
    write_weights(tmp_path / "new", specs, tensors.items())
    (tmp_path / "new" / "model.safetensors").replace(tmp_path / "hf" / "model.safetensors")
    with pytest.raises(WeightsError, match=r"'float16': 'final_norm\.weight'"):
        tr.load_pretrained(tmp_path / "hf")
    assert tr.load_pretrained(tmp_path / "hf", dtype="float32").config.dtype.param == "float32"
