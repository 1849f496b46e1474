"""Quantised tensors: read on demand only, each number by the formula of its type."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jax_transformer as jt
import torch_reference as tr
from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.gguf.blocks import BLOCKS
from jax_transformer.nn.params import get_params
from parity_tests.cli.test_commands import run
from parity_tests.gguf.files import IQ2_XXS, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Tensor, metadata_of, pack, tensors_of
from parity_tests.hf.cases import SMALL
from parity_tests.hf.checkpoints import transformers
from parity_tests.tolerances import FLOAT32_OPERATION


def half(raw: bytes, start: int) -> float:
    return struct.unpack_from("<e", raw, start)[0]


def nibble(raw: bytes, start: int, i: int) -> int:
    return raw[start + i] & 15 if i < 16 else raw[start + i - 16] >> 4


def fifth(raw: bytes, start: int, i: int) -> int:
    return (int.from_bytes(raw[start : start + 4], "little") >> i & 1) << 4


Formula = Callable[[bytes, int], float]

FORMULAS: dict[str, tuple[int, Formula]] = {
    "Q4_0": (Q4_0, lambda raw, i: half(raw, 0) * (nibble(raw, 2, i) - 8)),
    "Q4_1": (Q4_1, lambda raw, i: half(raw, 0) * nibble(raw, 4, i) + half(raw, 2)),
    "Q5_0": (Q5_0, lambda raw, i: half(raw, 0) * ((nibble(raw, 6, i) | fifth(raw, 2, i)) - 16)),
    "Q5_1": (Q5_1, lambda raw, i: half(raw, 0) * (nibble(raw, 8, i) | fifth(raw, 4, i)) + half(raw, 2)),
    "Q8_0": (Q8_0, lambda raw, i: half(raw, 0) * struct.unpack_from("<b", raw, 2 + i)[0]),
}
"""Number ``i`` of a block, as ggml's quants.h defines it."""


SCALES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
"""Where a block has numbers in float16; the others have one at its beginning."""


def blocks(kind: str, count: int) -> list[bytes]:
    """Random blocks whose scales are of a usual size."""
    rng = np.random.default_rng(5)
    raw = rng.integers(0, 256, (count, BLOCKS[kind].num_bytes), np.uint8)
    for start in SCALES.get(kind, (0,)):
        raw[:, start : start + 2] = rng.normal(0, 0.1, (count, 1)).astype("<f2").view(np.uint8)
    return [row.tobytes() for row in raw]


def even_model(folder: Path, width: int = 32) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors of a model whose rows are whole blocks."""
    config = transformers.LlamaConfig(**SMALL | {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 1})
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return metadata_of(config, "llama"), tensors_of(folder, "llama", (4, 2))


@pytest.mark.parametrize("kind", FORMULAS)
def test_every_number_follows_the_formula_of_its_type(kind: str):
    content = blocks(kind, 64)
    dequantize = BLOCKS[kind].dequantize
    assert dequantize is not None
    got = dequantize(np.frombuffer(b"".join(content), np.uint8).reshape(64, -1))
    wanted = [[FORMULAS[kind][1](raw, i) for i in range(32)] for raw in content]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, **FLOAT32_OPERATION)


@pytest.mark.parametrize("kind", FORMULAS)
def test_a_quantised_model_is_read_where_that_is_asked_for(kind: str, tmp_path: Path):
    """The same model in blocks and in the float32 that the blocks stand for: the same weights, to the bit."""
    number, dequantize = FORMULAS[kind][0], BLOCKS[kind].dequantize
    assert dequantize is not None
    metadata, tensors = even_model(tmp_path / "hf")
    expanded = dict(tensors)
    for name, (_, shape, _) in tensors.items():
        if len(shape) == 2:
            content = blocks(kind, shape[0] * shape[1] // 32)
            tensors[name] = (number, shape, b"".join(content))
            values = dequantize(np.frombuffer(tensors[name][2], np.uint8).reshape(len(content), -1))
            expanded[name] = (0, shape, values.tobytes())
    (tmp_path / "blocks.gguf").write_bytes(pack(metadata, tensors))
    (tmp_path / "expanded.gguf").write_bytes(pack(metadata, expanded))
    for package in (jt, tr):
        with pytest.raises(WeightsError, match=rf"quantised \({kind}; the first: 'output\.weight'\); dequantize=True"):
            package.load_pretrained(tmp_path / "blocks.gguf")
    got = get_params(jt.load_pretrained(tmp_path / "blocks.gguf", dequantize=True))
    wanted = get_params(jt.load_pretrained(tmp_path / "expanded.gguf"))
    assert all(np.array_equal(got[path], wanted[path]) for path in wanted)


def test_the_command_asks_for_the_flag_and_other_types_are_refused_by_name(tmp_path: Path):
    metadata, tensors = even_model(tmp_path / "hf")
    shape = tensors["output.weight"][1]
    in_blocks = tensors | {"output.weight": (Q8_0, shape, b"".join(blocks("Q8_0", shape[0] * shape[1] // 32)))}
    (tmp_path / "q8.gguf").write_bytes(pack(metadata, in_blocks))
    done = run("convert", tmp_path / "q8.gguf", tmp_path / "ours")
    assert done.returncode == 2
    assert "--dequantize" in done.stderr
    assert not (tmp_path / "ours").exists()
    assert run("convert", tmp_path / "q8.gguf", tmp_path / "ours", "--dequantize").returncode == 0
    (tmp_path / "iq2.gguf").write_bytes(pack(metadata, tensors | {"output.weight": (IQ2_XXS, shape, b"")}))
    done = run("convert", tmp_path / "iq2.gguf", tmp_path / "other", "--dequantize")
    assert done.returncode == 2
    assert "tensors of type ['IQ2_XXS'] (the first: 'output.weight') are not read" in done.stderr
