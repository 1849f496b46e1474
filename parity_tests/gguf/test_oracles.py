"""What llama.cpp's own package and transformers make of the files that we read and write."""

import re
from pathlib import Path

import numpy as np
import pytest

import jax_transformer as jt
import torch_reference as tr
from jax_transformer.convert.gguf.blocks import BLOCKS, TYPE_NAMES
from jax_transformer.convert.hub import open_weights
from jax_transformer.convert.pretrained import convert
from parity_tests.gguf.families import MODELS, NARROW, read_by_transformers, save_model
from parity_tests.gguf.files import PLAIN, pack
from parity_tests.gguf.test_blocks import blocks, even_model
from parity_tests.gguf.test_tokenizer import original
from parity_tests.gguf.test_writing import TOKENS
from parity_tests.hf.bases import SMALL
from parity_tests.hf.checkpoints import torch, transformers
from parity_tests.tolerances import FLOAT32_MODEL, relative_error

gguf = pytest.importorskip("gguf")

QUANTIZED = [kind for kind, block in BLOCKS.items() if block.dequantize is not None]


@pytest.mark.parametrize("kind", QUANTIZED)
def test_every_bit_is_that_of_the_package_of_llama_cpp(kind: str):
    raw = np.frombuffer(b"".join(blocks(kind, 300)), np.uint8).reshape(300, -1)
    dequantize = BLOCKS[kind].dequantize
    assert dequantize is not None
    got, wanted = dequantize(raw), gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind])
    assert got.dtype == wanted.dtype == np.float32
    np.testing.assert_array_equal(got, wanted)


def test_a_mixture_of_types_is_what_transformers_reads(tmp_path: Path):
    """As in files of Q4_K_M: most matrices in Q4_K, some in Q6_K, one in float16 and the norms in float32."""
    metadata, tensors = even_model(tmp_path / "hf", width=256)
    kinds = {"token_embd": "Q6_K", "blk.0.ffn_down": "Q6_K", "blk.0.attn_v": "Q5_K", "blk.0.attn_k": "Q3_K"}
    kinds |= {"blk.0.attn_q": "Q2_K", "blk.0.ffn_up": "IQ4_XS"}
    for name, (_, shape, content) in tensors.items():
        module = name.removesuffix(".weight")
        if len(shape) == 1 or module == "output":
            half = np.frombuffer(content, np.float32).astype(np.float16 if module == "output" else np.float32)
            tensors[name] = (PLAIN[str(half.dtype)], shape, half.tobytes())
            continue
        kind = kinds.get(module, "Q4_K")
        number = next(number for number, name in TYPE_NAMES.items() if name == kind)
        tensors[name] = (number, shape, b"".join(blocks(kind, shape[0] * shape[1] // 256)))
    (tmp_path / "q4_k_m.gguf").write_bytes(pack(metadata, tensors))
    theirs = read_by_transformers(tmp_path / "q4_k_m.gguf").state_dict()
    convert(tmp_path / "q4_k_m.gguf", tmp_path / "back", format="hf", family="llama", dequantize=True)
    for name, array in open_weights(tmp_path / "back").tensors():
        np.testing.assert_array_equal(array, theirs[name].numpy(), err_msg=name)


@pytest.mark.parametrize("case", sorted(MODELS.keys() - {"gemma", "mixtral", "llama, 3.1", "llama, linear", *NARROW}))
def test_transformers_reads_the_same_model_in_the_file(case: str, tmp_path: Path):
    """All but what it does not read in GGUF files: Gemma 1, the experts of Mixtral, scaled rotations, scales."""
    theirs = save_model(case, tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "model.gguf")
    again = read_by_transformers(tmp_path / "model.gguf")
    wanted, got = (model(torch.from_numpy(TOKENS)).logits.detach().numpy() for model in (theirs, again))
    assert relative_error(got, wanted) < FLOAT32_MODEL
    for package in (jt, tr):
        model = package.load_pretrained(tmp_path / "model.gguf")
        ours = model(TOKENS if package is jt else torch.from_numpy(TOKENS))[0]
        assert relative_error(np.asarray(ours if package is jt else ours.detach()), wanted) < FLOAT32_MODEL


@pytest.mark.parametrize("case", MODELS)
def test_the_package_of_llama_cpp_reads_names_types_and_keys(case: str, tmp_path: Path):
    """Matrices in the dtype of the model, norms and routers in float32, as llama.cpp wants them."""
    config = save_model(case, tmp_path / "hf", "bfloat16").config
    convert(tmp_path / "hf", tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    values = {key: field.contents() for key, field in reader.fields.items()}
    architecture = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == values["general.architecture"])
    known = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    found = set()
    for name, info in open_weights(tmp_path / "hf").items():
        module, _, leaf = re.sub(r"\.experts\.\d+\.", ".experts.", name).rpartition(".")
        own = f"{known.get_name(module)}.{leaf}"
        wide = len(info.shape) == 1 or "ffn_gate_inp" in own
        assert tensors[own].tensor_type.name == ("F32" if wide else "BF16"), name
        shape = tuple(map(int, reversed(tensors[own].shape)))
        assert (shape[1:] if ".experts." in name else shape) == info.shape
        found.add(own)
    assert found == set(tensors) - {"rope_freqs.weight"}
    prefix = values["general.architecture"]
    assert values[f"{prefix}.attention.head_count_kv"] == config.num_key_value_heads
    assert values["general.file_type"] == gguf.LlamaFileType.MOSTLY_BF16
    written = {key.replace(prefix, "{arch}") for key in values if key.startswith(f"{prefix}.")}
    assert written <= {key for group in vars(gguf.Keys).values() for key in getattr(group, "__dict__", {}).values()}
    assert reader.data_offset % 32 == 0


@pytest.mark.parametrize("pre", ["smollm", "llama-bpe"])
def test_transformers_finds_the_tokenizer_that_was_written(pre: str, tmp_path: Path):
    save_model("text", tmp_path / "hf", source=("llama", SMALL | {"vocab_size": 425}))
    (tmp_path / "hf" / "tokenizer.json").write_text(original(pre).to_str())
    (tmp_path / "hf" / "tokenizer_config.json").write_text('{"bos_token": "<|start|>", "eos_token": "<|end|>"}')
    convert(tmp_path / "hf", tmp_path / "model.gguf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    assert tokenizer.vocab_size == 425
    text = "The quick brown fox jumps over lazy dogs"
    assert tokenizer(text, add_special_tokens=False).input_ids == original(pre).encode(text).ids
