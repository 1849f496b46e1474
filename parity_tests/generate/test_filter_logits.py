"""Temperature, top-k and top-p against their definition in plain Python, in both frameworks."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jax_transformer.ops.sampling import filter_logits as jax_filter
from parity_tests.tolerances import FLOAT32_OPERATION, OPERATION
from torch_reference.ops.sampling import filter_logits as torch_filter

ROWS, VOCAB = 2, 7


def filter_jax(logits: np.ndarray, *laws: float | None) -> np.ndarray:
    return np.asarray(jax_filter(jnp.asarray(logits), *laws))


def filter_torch(logits: np.ndarray, *laws: float | None) -> np.ndarray:
    return torch_filter(torch.from_numpy(logits), *laws).numpy()


FILTERS = pytest.mark.parametrize("filtered", [filter_jax, filter_torch], ids=["jax", "torch"])


def by_definition(logits: list[float], temperature: float, top_k: int | None, top_p: float | None) -> dict[int, float]:
    """Probability of every token that may be drawn."""
    ranked = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    if temperature == 0.0:
        return {ranked[0]: 1.0}
    ranked = ranked[:top_k]
    weight = [math.exp((logits[token] - max(logits)) / temperature) for token in ranked]
    kept, total = [], 0.0
    for token, w in zip(ranked, weight, strict=True):
        assume(top_p in (None, 1.0) or abs(total / sum(weight) - top_p) > 1e-9)  # at the edge, rounding decides
        if top_p is not None and top_p < 1.0 and total / sum(weight) >= top_p:
            break
        kept.append((token, w))
        total += w
    return {token: w / total for token, w in kept}


quarters = st.integers(-8, 8).map(lambda n: n / 4)  # few values: equal logits are common
rows = st.lists(st.lists(quarters, min_size=VOCAB, max_size=VOCAB), min_size=ROWS, max_size=ROWS)


@FILTERS
@settings(max_examples=80)
@given(
    rows,
    st.sampled_from([0.0, 0.1, 0.7, 1.0, 3.0]),
    st.sampled_from([None, 1, 2, 3, VOCAB, VOCAB + 9]),
    st.sampled_from([None, 1e-6, 0.3, 0.6, 0.95, 1.0]),
)
def test_filter_is_temperature_then_top_k_then_top_p(filtered, logits, temperature, top_k, top_p):
    odds = filtered(np.array(logits), temperature, top_k, top_p)
    for row, got in zip(logits, odds, strict=True):
        wanted = by_definition(row, temperature, top_k, top_p)
        assert set(np.flatnonzero(np.isfinite(got))) == set(wanted)
        probabilities = np.exp(got) / np.exp(got).sum()
        np.testing.assert_allclose([probabilities[token] for token in wanted], list(wanted.values()), **OPERATION)


@FILTERS
def test_the_token_that_crosses_p_is_kept_and_one_that_reaches_it_is_the_last(filtered):
    logits = np.log([[0.5, 0.25, 0.125, 0.125]])
    kept = [int(np.isfinite(filtered(logits, 1.0, None, p)).sum()) for p in (0.4, 0.6, 0.74, 0.76, 0.99)]
    assert kept == [1, 2, 2, 3, 4]
    assert np.isfinite(filtered(np.zeros((1, 4)), 1.0, None, 0.5)).tolist() == [[True, True, False, False]]


@FILTERS
def test_of_many_equal_logits_the_lowest_ids_are_kept(filtered):
    logits = np.zeros((1, 5000), np.float32)
    logits[0, 4000:4010] = 1.0
    assert np.flatnonzero(np.isfinite(filtered(logits, 1.0, 20, None)[0])).tolist() == [*range(10), *range(4000, 4010)]


@FILTERS
def test_top_p_counts_probabilities_after_top_k_and_temperature(filtered):
    logits = np.log([[0.4, 0.3, 0.2, 0.1]])
    assert np.isfinite(filtered(logits, 1.0, None, 0.55)).sum() == 2
    assert np.isfinite(filtered(logits, 1.0, 2, 0.55)).sum() == 1  # 0.4 / 0.7 = 0.57 reaches it alone
    assert np.isfinite(filtered(logits, 9.0, None, 0.55)).sum() == 3


@FILTERS
@pytest.mark.parametrize("temperature", [1e-50, 1e-20, 1e30])
def test_extreme_temperatures_give_no_nan(filtered, temperature):
    for laws in ((None, None), (3, None), (None, 0.9)):
        odds = filtered(np.array([[80.0, 90.0, -3e4, 89.0]], np.float32), temperature, *laws)
        assert not np.isnan(odds).any()
        assert odds.argmax() == 1


def test_bfloat16_logits_are_filtered_in_float32():
    logits = [[1.0, 0.996, 0.5]]
    ours = jax_filter(jnp.asarray(logits, jnp.bfloat16), 0.3, None, 0.7)
    theirs = torch_filter(torch.tensor(logits, dtype=torch.bfloat16), 0.3, None, 0.7)
    assert ours.dtype == jnp.float32
    assert theirs.dtype == torch.float32
    np.testing.assert_allclose(np.asarray(ours), theirs.numpy(), **FLOAT32_OPERATION)
