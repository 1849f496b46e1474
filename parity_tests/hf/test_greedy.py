"""Twelve tokens of every generating family, through the caches of both frameworks: those of ``generate`` in transformers."""

from pathlib import Path

import pytest

import jax_transformer as jt
from jax_transformer.config import Sampling
from jax_transformer.convert.hf import FAMILY
from jax_transformer.generate import engine
from parity_tests.hf.cases import CASES
from parity_tests.hf.greedy import GENERATING, STEPS, continued, oddest

GREEDY = Sampling(temperature=0.0)

ODDEST = [oddest(name) for name in FAMILY if any(CASES[case][0] == name for case in GENERATING)]
"""One case of each family."""

ACROSS = ["llama, dynamic", "phi3, longrope"]
"""Cases whose rotation changes while tokens are added."""

COMMON = {oddest(name) for name in ("llama", "gemma3_text", "qwen3_next", "mixtral", "t5")}
"""Cases that are compiled for JAX every time."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in [*ODDEST, *ACROSS] else pytest.mark.slow) for case in GENERATING]
)
def test_the_mirror_goes_on_as_transformers_does(case: str, tmp_path: Path):
    import torch_reference as tr
    from torch_reference.generate.engine import generate

    prompts, tokens = continued(case, tmp_path / "hf")
    ours = tr.load_pretrained(tmp_path / "hf")
    assert generate(ours, prompts, settings=GREEDY, max_new_tokens=STEPS) == tokens


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in COMMON else pytest.mark.slow) for case in [*ODDEST, *ACROSS]]
)
def test_jax_goes_on_as_transformers_does(case: str, tmp_path: Path):
    prompts, tokens = continued(case, tmp_path / "hf")
    ours = jt.load_pretrained(tmp_path / "hf")
    assert engine.generate(ours, prompts, settings=GREEDY, max_new_tokens=STEPS) == tokens
