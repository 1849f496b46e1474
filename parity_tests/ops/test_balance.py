"""Terms that keep experts busy: what they are of, that padding counts nowhere, and the function of transformers."""

from typing import Any

import jax
import numpy as np
import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from parity_tests.ops.pairs import PACKAGES, agreed, array, call, operation, tensor
from parity_tests.tolerances import FLOAT32_OPERATION, OPERATION

E, K = 5, 3
SHAPE = (2, 7)

REAL = np.array([[0, 1, 1, 1, 1, 0, 1], [1, 1, 0, 1, 0, 0, 0]], bool)


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, experts and probabilities of the tokens."""
    logits = rng.normal(size=(*SHAPE, E)) + np.linspace(1, 0, E)
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return logits, np.argsort(-logits, axis=-1)[..., :K], scores


def both(name: str, *arguments: Any, real: np.ndarray | None = None) -> np.ndarray:
    """The result, after checking that both packages have the same."""
    options = [{} if real is None else {"real": tensor(package, real)} for package in PACKAGES]
    ours, theirs = (call(package, f"balance.{name}", *arguments, **o) for package, o in zip(PACKAGES, options, strict=True))
    assert ours.dtype.kind == theirs.dtype.kind
    np.testing.assert_allclose(theirs, ours, **(OPERATION if ours.dtype == np.float64 else FLOAT32_OPERATION))
    return ours


@pytest.mark.parametrize("real", [None, REAL])
def test_the_balance_term_is_load_times_probability(real: np.ndarray | None, rng: np.random.Generator):
    _, experts, scores = drawn(rng)
    counted = np.ones(SHAPE, bool) if real is None else real
    counts = np.bincount(experts[counted].reshape(-1), minlength=E)
    np.testing.assert_array_equal(both("expert_counts", experts, E, real=real), counts)
    load = counts / (K * counted.sum())
    np.testing.assert_allclose(both("expert_load", counts), load, **FLOAT32_OPERATION)
    want = E * (load * scores[counted].mean(0)).sum()
    np.testing.assert_allclose(both("load_balance", counts, scores, real=real), want, **OPERATION)


@pytest.mark.parametrize("real", [None, REAL])
def test_that_of_transformers_is_k_times_as_much(real: np.ndarray | None, rng: np.random.Generator):
    logits, experts, scores = drawn(rng)
    mask = None if real is None else torch.tensor(real, dtype=torch.float32)
    want = load_balancing_loss_func((torch.tensor(logits, dtype=torch.float32).reshape(-1, E),), E, K, mask)
    counts = both("expert_counts", experts, E, real=real)
    np.testing.assert_allclose(K * both("load_balance", counts, scores, real=real), want, **FLOAT32_OPERATION)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_it_is_1_where_all_experts_are_equally_busy(k: int):
    experts = (np.arange(E)[:, None] + np.arange(k)) % E
    counts = both("expert_counts", experts, E)
    np.testing.assert_allclose(both("load_balance", counts, np.full((E, E), 1 / E)), 1, **OPERATION)
    np.testing.assert_allclose(both("expert_load", counts), 1 / E, **FLOAT32_OPERATION)


@pytest.mark.parametrize("real", [None, REAL])
def test_the_z_term_is_the_mean_square_of_logsumexp(real: np.ndarray | None, rng: np.random.Generator):
    logits = drawn(rng)[0]
    counted = np.ones(SHAPE, bool) if real is None else real
    want = (np.log(np.exp(logits).sum(-1)) ** 2)[counted].mean()
    np.testing.assert_allclose(both("router_z", logits, real=real), want, **OPERATION)


@pytest.mark.parametrize("package", PACKAGES)
def test_padding_counts_nowhere_and_has_no_gradient(package: str, rng: np.random.Generator):
    logits, experts, scores = drawn(rng)
    hidden = ~REAL[..., None]
    garbage = [np.where(hidden, x, y) for x, y in ((1e3, logits), (0, experts), (0.5, scores))]
    given, counts = {"real": tensor(package, REAL)}, np.arange(1, E + 1)
    for name, mine, other in [
        ("expert_counts", (garbage[1], E), (experts, E)),
        ("load_balance", (counts, garbage[2]), (counts, scores)),
        ("router_z", garbage[:1], (logits,)),
    ]:
        np.testing.assert_array_equal(
            call(package, f"balance.{name}", *mine, **given), call(package, f"balance.{name}", *other, **given)
        )
    for name, before, value in [("load_balance", [tensor(package, counts)], scores), ("router_z", [], logits)]:
        function = operation(package, f"balance.{name}")
        if package == "jax_transformer":
            gradient = jax.grad(lambda x: function(*before, x, **given))(tensor(package, value))  # noqa: B023
        else:
            leaf = torch.tensor(value, requires_grad=True)
            (gradient,) = torch.autograd.grad(function(*before, leaf, **given), leaf)
        assert not array(gradient)[~REAL].any()
        assert array(gradient)[REAL].all()


def test_without_a_real_token_there_is_nothing(rng: np.random.Generator):
    logits, experts, scores = drawn(rng)
    nobody = np.zeros(SHAPE, bool)
    counts = both("expert_counts", experts, E, real=nobody)
    assert not counts.any()
    assert not both("expert_load", counts).any()
    assert both("load_balance", counts, scores, real=nobody) == both("router_z", logits, real=nobody) == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_16_bit_terms_are_computed_in_float32(package: str, rng: np.random.Generator):
    logits, _, scores = drawn(rng)
    for name, before, x in [("router_z", [], logits), ("load_balance", [np.arange(E)], scores)]:
        function, before = operation(package, f"balance.{name}"), [tensor(package, value) for value in before]
        rounded = tensor(package, x, "bfloat16")
        got, want = (function(*before, value) for value in (rounded, tensor(package, array(rounded).astype(np.float64))))
        assert got.dtype == tensor(package, x, "float32").dtype
        np.testing.assert_allclose(array(got), array(want), **FLOAT32_OPERATION)


@pytest.mark.parametrize(
    ("counts", "change"),
    [([4, 2, 1, 1], [-1, 0, 1, 1]), ([3, 3, 3, 3], [0, 0, 0, 0]), ([3, 3, 3, 4], [1, 1, 1, -1]), ([0, 0, 0, 0], [0, 0, 0, 0])],
)
def test_the_bias_rises_where_there_is_less_than_the_mean(counts: list[int], change: list[int]):
    bias = np.array([0.5, -0.25, 0.0, 1.0])
    got = agreed("balance.balanced_bias", bias, np.array(counts), 0.01)
    np.testing.assert_allclose(got, bias + 0.01 * np.array(change), **OPERATION)


def test_a_balanced_bias_stands_still_at_any_number_of_tokens():
    # A third of a third is not a ninth: in floating point the mean of equal loads is not the load.
    for count in (1, 7, 25, 10**8):
        for dtype in ("float32", "float64"):
            for package in PACKAGES:
                got = call(package, "balance.balanced_bias", np.ones(7), np.full(7, count, np.int32), 0.5, dtype=dtype)
                np.testing.assert_array_equal(got, 1)
