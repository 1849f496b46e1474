"""Models of ``transformers``, written as llama.cpp's converter writes them, are read back as the same models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jax_transformer as jt
import torch_reference as tr
from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.hub import open_weights
from jax_transformer.convert.pretrained import convert
from parity_tests.cli.test_commands import run
from parity_tests.gguf.files import F32, metadata_of, pack, tensors_of, write_model
from parity_tests.hf.checkpoints import (
    assert_same_meaning,
    assert_same_tensors,
    inputs,
    save,
    their_logits,
    torch,
)
from parity_tests.tolerances import FLOAT32_MODEL, relative_error

MODELS = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"vocab_size": 43, "rope__dimension_count": 6, "attention__value_length": 6}),
    "llama, linear": ("llama", {"rope__freq_base": 5e3, "rope__scaling__type": "linear", "rope__scaling__factor": 4.0}),
    "qwen2, no window": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
}


def assert_same_logits(model: Any, wanted: np.ndarray, case: str) -> None:
    tokens = inputs(case)["tokens"]
    got = model(tokens)[0] if isinstance(model, jt.models.Decoder) else model(torch.from_numpy(tokens))[0].detach().numpy()
    assert relative_error(np.asarray(got), wanted) < FLOAT32_MODEL


@pytest.mark.parametrize("case", MODELS)
def test_a_model_is_read_as_it_was_and_exported_with_the_same_bytes(case: str, tmp_path: Path):
    architecture, more = MODELS[case]
    theirs = save(case, tmp_path / "hf")
    write_model(tmp_path / "hf", tmp_path / "model.gguf", architecture, theirs.config, **more)
    for package in (jt, tr):
        assert_same_logits(package.load_pretrained(tmp_path / "model.gguf"), their_logits(theirs, case), case)
    convert(tmp_path / "model.gguf", tmp_path / "back", format="hf", family=architecture)
    assert_same_tensors(tmp_path / "hf", tmp_path / "back")
    assert_same_meaning(tmp_path / "hf", tmp_path / "back")


def test_norms_of_gemma_lose_the_one_that_they_are_stored_with(tmp_path: Path):
    theirs = save("gemma", tmp_path / "hf")
    write_model(tmp_path / "hf", tmp_path / "model.gguf", "gemma", theirs.config)
    for package in (jt, tr):
        assert_same_logits(package.load_pretrained(tmp_path / "model.gguf"), their_logits(theirs, "gemma"), "gemma")
    convert(tmp_path / "model.gguf", tmp_path / "back", format="hf", family="gemma")
    one, other = (open_weights(tmp_path / name).read("model.norm.weight") for name in ("hf", "back"))
    np.testing.assert_array_equal(one + np.float32(1), other + np.float32(1))


def test_a_norm_that_is_no_one_plus_anything_is_refused(tmp_path: Path):
    """Taking 1 away from a thousandth of float32's smallest step would lose it: the model would compute with another number."""
    theirs = save("gemma", tmp_path / "hf")
    tensors = tensors_of(tmp_path / "hf", "gemma", (4, 2))
    kind, shape, content = tensors["output_norm.weight"]
    tensors["output_norm.weight"] = (kind, shape, np.float32(1e-12).tobytes() + content[4:])
    (tmp_path / "model.gguf").write_bytes(pack(metadata_of(theirs.config, "gemma"), tensors))
    with pytest.raises(WeightsError, match=r"tensor 'output_norm\.weight' holds numbers that are 1 \+ w for no w of float32"):
        jt.load_pretrained(tmp_path / "model.gguf")


def test_divisors_of_frequencies_are_applied(tmp_path: Path):
    """The file holds what a scaling comes to, frequency by frequency; where that is Llama 3.1's, it is read as such."""
    theirs = save("llama, 3.1", tmp_path / "hf")
    theta, width = theirs.config.rope_parameters["rope_theta"], 6
    plain = theta ** -(np.arange(0, width, 2) / width)
    factors = (plain / theirs.model.rotary_emb.inv_freq.numpy()).astype(np.float32)
    assert factors.max() > 1.5
    tensors = tensors_of(tmp_path / "hf", "llama", (4, 2)) | {"rope_freqs.weight": (F32, (3,), factors.tobytes())}
    for kind, more in (("longrope", {}), ("llama3", {"llama.rope.scaling.original_context_length": 8})):
        (tmp_path / "model.gguf").write_bytes(pack(metadata_of(theirs.config, "llama") | more, tensors))
        for package in (jt, tr):
            model = package.load_pretrained(tmp_path / "model.gguf")
            assert model.config.stack.layers[0].attention.position.scaling.kind == kind
            assert_same_logits(model, their_logits(theirs, "llama, 3.1"), "llama, 3.1")


def test_norms_in_float32_of_a_file_of_16_bits_become_what_they_were(tmp_path: Path):
    """Files of bfloat16 have norms in float32, in which no bit of theirs is lost."""
    theirs = save("llama", tmp_path / "hf", dtype="bfloat16")
    write_model(tmp_path / "hf", tmp_path / "model.gguf", "llama", theirs.config)
    done = run("convert", tmp_path / "model.gguf", tmp_path / "back", "--format", "hf")
    assert done.returncode == 0, done.stderr
    assert_same_tensors(tmp_path / "hf", tmp_path / "back")


def test_rows_of_a_tensor_are_those_of_the_whole(tmp_path: Path):
    from jax_transformer.convert.gguf.architectures import ARCHITECTURES
    from jax_transformer.convert.gguf.file import read_gguf
    from jax_transformer.convert.gguf.weights import GgufWeights

    theirs = save("llama", tmp_path / "hf")
    write_model(tmp_path / "hf", tmp_path / "model.gguf", "llama", theirs.config)
    layout = ARCHITECTURES[0].layout({"num_attention_heads": 4, "num_key_value_heads": 2})
    weights = GgufWeights(read_gguf(tmp_path / "model.gguf"), layout, dequantize=False)
    for name, array in open_weights(tmp_path / "hf").tensors():
        for rows in (slice(None), slice(2, 7), slice(5, 5), slice(4, None)):
            np.testing.assert_array_equal(weights.read(name, rows), array[rows])


def test_only_gguf_files_are_dequantized(tmp_path: Path):
    save("llama", tmp_path / "hf")
    for package in (jt, tr):
        with pytest.raises(WeightsError, match="no GGUF file; dequantize is for those"):
            package.load_pretrained(tmp_path / "hf", dequantize=True)
