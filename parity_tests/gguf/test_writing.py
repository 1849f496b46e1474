"""GGUF files that we write: the same bytes after a round trip, and what transformers and the gguf package read in them."""

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jax_transformer as jt
import torch_reference as tr
from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.convert.gguf import write_gguf
from jax_transformer.convert.gguf.file import read_gguf
from jax_transformer.convert.hf import HubSource, family_named
from jax_transformer.convert.hub import open_weights
from jax_transformer.convert.layout import hub_entries
from jax_transformer.convert.pretrained import convert, structure
from parity_tests.cli.test_commands import run
from parity_tests.gguf.families import MODELS, save_model
from parity_tests.hf.bases import L0, SMALL, WIDE, scaled
from parity_tests.hf.checkpoints import assert_same_meaning, assert_same_tensors, rewrite

TOKENS = np.random.default_rng(3).integers(3, 43, (2, 14))


def exact_norms(folder: Path) -> None:
    """Gemma's norms as any float16 or bfloat16 model has them: 1 + w loses nothing in float32."""

    def edit(tensors: dict[str, np.ndarray]) -> None:
        for name, array in tensors.items():
            if name.endswith("norm.weight"):
                tensors[name] = (np.round(array.astype(np.float32) * 64) / 64).astype(array.dtype)

    rewrite(folder, edit)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("case", MODELS)
def test_a_round_trip_keeps_every_byte_and_the_meaning(case: str, dtype: str, tmp_path: Path):
    save_model(case, tmp_path / "hf", dtype)
    if case.startswith("gemma"):
        exact_norms(tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "model.gguf")
    convert(tmp_path / "model.gguf", tmp_path / "back", format="hf", family=MODELS[case][0])
    assert_same_tensors(tmp_path / "hf", tmp_path / "back")
    assert_same_meaning(tmp_path / "hf", tmp_path / "back")


def test_a_norm_of_gemma_computes_the_same_where_bits_of_it_are_lost(tmp_path: Path):
    """1 + w is rounded to float32 in the file as in the model: every bit that is lost is one that the model does not see."""
    save_model("gemma", tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "model.gguf")
    one, other = (jt.load_pretrained(tmp_path / name) for name in ("hf", "model.gguf"))
    weights = open_weights(tmp_path / "hf").read("model.norm.weight")
    np.testing.assert_array_equal(np.asarray(other.final_norm.scale) + np.float32(1), weights + np.float32(1))
    assert np.array_equal(one(TOKENS)[0], other(TOKENS)[0])


def test_a_model_in_memory_is_saved_as_a_file(tmp_path: Path):
    """Both packages write the same bytes, and replace a file of ours where that is asked for, and nothing else."""
    save_model("qwen2", tmp_path / "hf")
    for name, package in (("jax", jt), ("torch", tr)):
        package.save_pretrained(package.load_pretrained(tmp_path / "hf"), tmp_path / f"{name}.gguf", format="gguf")
        with pytest.raises(WeightsError, match="exists already; choose another place or pass overwrite=True"):
            package.save_pretrained(package.load_pretrained(tmp_path / "hf"), tmp_path / f"{name}.gguf", format="gguf")
    assert (tmp_path / "jax.gguf").read_bytes() == (tmp_path / "torch.gguf").read_bytes()
    convert(tmp_path / "jax.gguf", tmp_path / "back", format="hf", family="qwen2")
    assert_same_tensors(tmp_path / "hf", tmp_path / "back")
    convert(tmp_path / "hf", tmp_path / "jax.gguf", overwrite=True)
    (tmp_path / "notes.gguf").write_text("mine")
    with pytest.raises(WeightsError, match="will not be replaced, it is no GGUF file"):
        convert(tmp_path / "hf", tmp_path / "notes.gguf", overwrite=True)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "window": ("mistral", SMALL | {"sliding_window": 5}, "attention.window: the model has 5, the family None"),
    "turns": (
        "llama",
        SMALL | scaled("llama3", low_freq_factor=2.0, high_freq_factor=4.0, **L0),
        "wanted 'linear', none, or 'llama3' with low_freq_factor 1.0 and high_freq_factor 4.0",
    ),
    "scaling": ("llama", SMALL | scaled("yarn", **L0), "rotation: the model has the scaling {'rope_type': 'yarn'"),
    "scale": ("gemma2", SMALL | WIDE | {"query_pre_attn_scalar": 7, "sliding_window": 5}, "attention.scale: the model has"),
    "no caps": ("gemma2", SMALL | {"attn_logit_softcapping": None}, "attention.softcap: the model has None, its file 50.0"),
    "theta": ("llama", SMALL | {"rope_theta": 1234567.89}, "position.base: the model has 1234567.89, its file 1234567.9"),
    "some biases": ("cohere", SMALL, "no architecture of GGUF that we write has this model"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_key_can_say_is_refused_by_name(case: str, tmp_path: Path):
    name, keys, wanted = REFUSED[case]
    save_model(case, tmp_path / "hf", source=(name, keys))
    with pytest.raises(ConfigError) as caught:
        convert(tmp_path / "hf", tmp_path / "model.gguf")
    assert wanted in str(caught.value)
    assert not (tmp_path / "model.gguf").exists()


def test_other_dtypes_and_families_are_refused(tmp_path: Path):
    save_model("llama", tmp_path / "hf")
    done = run("convert", tmp_path / "hf", tmp_path / "model.gguf", "--dtype", "float64")
    assert done.returncode == 2
    assert "float64 is not written to GGUF files; give a dtype, one of ['bfloat16', 'float16', 'float32']" in done.stderr
    done = run("convert", tmp_path / "hf", tmp_path / "model.gguf", "--family", "bloom")
    assert done.returncode == 2
    assert "family 'bloom' is not written; wanted one of ['llama', " in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path):
    """A value that is not finite in the last tensor: the old file stays, nothing else does."""
    save_model("llama", tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "model.gguf")
    before = (tmp_path / "model.gguf").read_bytes()
    rewrite(tmp_path / "hf", lambda tensors: tensors["lm_head.weight"].__setitem__(0, np.nan))
    with pytest.raises(WeightsError, match="not finite"):
        convert(tmp_path / "hf", tmp_path / "model.gguf", overwrite=True)
    assert (tmp_path / "model.gguf").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "model.gguf"]


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path):
    """The file that it wrote on goes, and the file that it had moved aside comes back."""
    save_model("llama", tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "model.gguf")
    (tmp_path / "model.gguf").rename(tmp_path / "model.gguf.old-99999999")
    (tmp_path / "model.gguf.tmp-99999999").write_bytes(b"half")
    with pytest.raises(WeightsError, match="exists already"):
        convert(tmp_path / "hf", tmp_path / "model.gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "model.gguf"]


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path):
    """24 MB of weights, of which no tensor has more than 512 KiB."""
    keys = SMALL | {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 12, "num_key_value_heads": 4}
    config = family_named("llama").read_config({"tie_word_embeddings": False} | keys, "config")
    shapes = {entry.hub_name: entry.shape for entry in hub_entries(structure(config))}
    total = 4 * sum(math.prod(shape) for shape in shapes.values())
    source = HubSource(
        {name: (shape, np.dtype(np.float32)) for name, shape in shapes.items()}, lambda name: np.ones(shapes[name], np.float32)
    )
    tracemalloc.start()
    write_gguf(tmp_path / "model.gguf", config, source, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "model.gguf").stat().st_size > total > 24 * 10**6
    assert peak < 3 * 2**20


def test_norms_that_do_not_fit_in_the_dtype_of_the_matrices_ask_for_one(tmp_path: Path):
    """No bit is dropped silently: a norm that needs float32 beside matrices of bfloat16."""
    save_model("llama", tmp_path / "hf", "bfloat16")
    convert(tmp_path / "hf", tmp_path / "model.gguf")
    place = read_gguf(tmp_path / "model.gguf").tensors["output_norm.weight"].offset
    with (tmp_path / "model.gguf").open("r+b") as stream:
        stream.seek(place)
        stream.write(np.float32(1.0001).tobytes())
    with pytest.raises(WeightsError, match="give a dtype explicitly"):
        jt.load_pretrained(tmp_path / "model.gguf")
    model = jt.load_pretrained(tmp_path / "model.gguf", dtype="float32")
    assert np.asarray(model.final_norm.scale)[0] == np.float32(1.0001)


def test_a_head_is_wide_where_the_config_says_so(tmp_path: Path):
    save_model("wide", tmp_path / "hf", source=("llama", SMALL | WIDE))
    convert(tmp_path / "hf", tmp_path / "model.gguf")
    assert read_gguf(tmp_path / "model.gguf").metadata["llama.attention.key_length"] == 10
    convert(tmp_path / "model.gguf", tmp_path / "back", format="hf", family="llama")
    assert_same_tensors(tmp_path / "hf", tmp_path / "back")
