"""Every table entry along every axis, and configs from anywhere in the space, agree in both frameworks."""

import os
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from jax_transformer.config import Decoder
from parity_tests.cases import draw_config, enumerate_cases
from parity_tests.ladder import run_ladder
from parity_tests.measured import Plan
from parity_tests.report import Row

CASES = enumerate_cases()
WITHOUT_GRADIENT = {
    "position_none": [f"stack.layers.{layer}.attn.k_proj.bias" for layer in (0, 1)],
    "attention_windows": [f"stack.layers.{layer}.attn.{name}_proj.weight" for layer in (0, 3) for name in "kq"],
}
"""Where a softmax over keys cannot feel a parameter: no rotation, or a window of one token."""
DRAWN = 10
LONG_EXAMPLES = int(os.environ.get("PARITY_EXAMPLES", "60"))
SWEEP = Plan(dtypes=("float64",), init=False, optimize=False)
EVERY_PRECISION = Plan(dtypes=("float64", "float32", "bfloat16", "bfloat16_weights"), optimize=False)


@pytest.mark.parametrize("name", CASES)
def test_every_table_entry_along_every_axis(name: str) -> None:
    report = run_ladder(CASES[name], plan=SWEEP, title=name)
    assert report.passed, report.summary()
    assert list(report.zero_gradients) == WITHOUT_GRADIENT.get(name, [])


@pytest.mark.parametrize("number", range(DRAWN))
def test_a_config_from_anywhere_in_the_space(number: int) -> None:
    config = draw_config(Random(number).choice)
    report = run_ladder(
        config, plan=Plan(dtypes=("float64", "own"), init=False, optimize=False, seed=number), title=repr(config)
    )
    assert report.passed, report.summary()


@st.composite
def configs(draw: Callable) -> Decoder:
    """The same space for hypothesis, which shrinks what fails to the simplest config that does."""
    return draw_config(lambda options: draw(st.sampled_from(options)))


@settings(max_examples=2)
@given(configs())
def test_configs_that_shrink(config: Decoder) -> None:
    report = run_ladder(config, plan=SWEEP, title=repr(config))
    assert report.passed, report.summary()


@pytest.mark.slow
@seed(2)
@settings(max_examples=LONG_EXAMPLES)
@given(configs(), st.integers(0, 1000))
def test_many_configs_at_every_precision(config: Decoder, weights: int) -> None:
    plan = Plan(dtypes=EVERY_PRECISION.dtypes, optimize=False, seed=weights)
    report = run_ladder(config, plan=plan, title=repr(config))
    assert report.passed, report.summary()


@pytest.mark.parametrize("name", ["position_none", "ffn_relu"])
def test_every_precision(name: str) -> None:
    report = run_ladder(CASES[name], plan=EVERY_PRECISION, title=name)
    assert report.passed, report.summary()
    assert {row.stage for row in report.rows} >= {
        "structure",
        "round trip",
        "forward",
        "gradient",
        "casts",
        "optimizer",
        "decode",
        "init",
    }


def test_a_nan_is_out_of_every_budget() -> None:
    assert not Row("forward", "float64", "logits", float("nan"), 1.0).passed
