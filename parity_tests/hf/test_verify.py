"""Checkpoints of Hugging Face are verified against their conversion, and against transformers itself."""

from pathlib import Path

import pytest

from jax_transformer.convert.pretrained import convert
from jax_transformer.verify.run import Question, verify
from parity_tests.hf.checkpoints import save

CASES = ["llama, 3.1", "llama, dynamic", "mistral", "phi3, longrope, long", "gpt2", "roberta", "bert", "t5", "bart", "t5gemma"]


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_is_that_of_transformers_and_its_conversion(case: str, tmp_path: Path):
    save(case, tmp_path / "hf")
    theirs = verify(tmp_path / "hf", tmp_path / "hf", Question(("jax", "transformers")))
    assert theirs.passed, theirs.checks
    convert(tmp_path / "hf", tmp_path / "ours")
    ours = verify(tmp_path / "hf", tmp_path / "ours", Question(("torch", "jax"), "float64"))
    assert ours.passed, ours.checks
    assert theirs.a.tensors_sha256 == theirs.b.tensors_sha256 == ours.a.tensors_sha256 == ours.b.tensors_sha256
    assert theirs.a.config_sha256 == ours.b.config_sha256
