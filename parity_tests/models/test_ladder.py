"""Every table entry along every axis, and configs from anywhere in the space, agree in both frameworks."""

import os
from collections.abc import Callable
from dataclasses import replace
from random import Random

import jax
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from jax_transformer.config import Encoder, Model
from jax_transformer.config.tree import fields, nodes
from parity_tests.cases import enumerate_cases
from parity_tests.drawing import draw_config
from parity_tests.ladder import run_ladder
from parity_tests.measured import Plan
from parity_tests.report import LadderReport, Row

CASES = enumerate_cases()
WITHOUT_GRADIENT = {
    "position_none": [f"stack.layers.{layer}.attn.k_proj.bias" for layer in (0, 1)],
    "attention_windows": [f"stack.layers.{layer}.attn.{name}_proj.weight" for layer in (0, 3) for name in "kq"],
    "qk_norm_head": ["stack.layers.1.attn.k_norm.bias"],
    "encoder_bert": [f"stack.layers.{layer}.attn.k_proj.bias" for layer in (0, 1)],
    "experts_softmax": ["stack.layers.2.ffn.choice_bias"],
    "experts_sigmoid": [f"stack.layers.{layer}.ffn.choice_bias" for layer in (1, 3)],
    "encoder_decoder_untied": ["encoder.stack.layers.0.attn.k_proj.bias"],
}
"""Where a softmax over keys cannot feel a parameter (no rotation after it, or a window of one token), and biases that only
choose."""
DRAWN, DRAWN_IN_ALL, DRAWN_IN_ITS_OWN_DTYPE, BUNDLE = 40, 500, 8, 20
LONG_EXAMPLES = int(os.environ.get("PARITY_EXAMPLES", "30"))
SWEEP = Plan(dtypes=("float64",), runs=("clipped",), init=False, optimize=False)
"""One of the optimizer's configs: what differs between them is the same code for every model."""
EVERY_PRECISION = Plan(dtypes=("float64", "float32", "bfloat16", "bfloat16_weights"), optimize=False)


def climb(config: Model, plan: Plan, title: str) -> LadderReport:
    """The report of a ladder that passed."""
    report = run_ladder(config, plan=plan, title=title)
    jax.clear_caches()  # No two configs share a compiled function, and a worker would grow by 30 MB with each.
    assert report.passed, report.summary()
    return report


def test_every_component_has_a_case() -> None:
    wanted = {owner for _, owner, _ in fields(Model)}
    assert wanted == {type(node) for config in CASES.values() for node in nodes(config)}


@pytest.mark.parametrize("name", CASES)
def test_every_table_entry_along_every_axis(name: str) -> None:
    report = climb(CASES[name], SWEEP, name)
    assert list(report.zero_gradients) == WITHOUT_GRADIENT.get(name, [])


@pytest.mark.parametrize("number", range(DRAWN))
def test_a_config_from_anywhere_in_the_space(number: int) -> None:
    config = draw_config(Random(number).choice)
    dtypes = ("float64", "own") if number < DRAWN_IN_ITS_OWN_DTYPE else ("float64",)
    climb(config, replace(SWEEP, dtypes=dtypes, seed=number), repr(config))


def test_every_drawn_config_is_one_that_a_file_may_hold() -> None:
    for number in range(DRAWN_IN_ALL):
        config = draw_config(Random(number).choice)
        assert type(config).model_validate(config.model_dump()) == config


@pytest.mark.slow
@pytest.mark.parametrize("start", range(DRAWN, DRAWN_IN_ALL, BUNDLE))
def test_many_configs_from_anywhere_in_the_space(start: int) -> None:
    for number in range(start, start + BUNDLE):
        climb(draw_config(Random(number).choice), replace(SWEEP, seed=number), f"config {number}")


@st.composite
def configs(draw: Callable) -> Model:
    """The same space for hypothesis, which shrinks what fails to the simplest config that does."""
    return draw_config(lambda options: draw(st.sampled_from(options)))


@settings(max_examples=2)
@given(configs())
def test_configs_that_shrink(config: Model) -> None:
    climb(config, SWEEP, repr(config))


@pytest.mark.slow
@seed(2)
@settings(max_examples=LONG_EXAMPLES)
@given(configs(), st.integers(0, 1000))
def test_many_configs_at_every_precision(config: Model, weights: int) -> None:
    climb(config, replace(EVERY_PRECISION, seed=weights), repr(config))


@pytest.mark.parametrize("name", ["position_none", "ffn_quick_gelu_sigmoid_relu", "encoder_bert", "encoder_decoder_rich"])
def test_every_precision(name: str) -> None:
    report = climb(CASES[name], EVERY_PRECISION, name)
    stages = {"structure", "round trip", "forward", "gradient", "casts", "optimizer", "decode", "init"}
    remembers = set() if isinstance(CASES[name], Encoder) else {"decode state"}
    assert {row.stage for row in report.rows} == stages | remembers


def test_a_nan_is_out_of_every_budget() -> None:
    assert not Row("forward", "float64", "logits", float("nan"), 1.0).passed
