"""Places at experts: who gets them, in what order, and that padding takes none."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_transformer.ops.routing import admit, expert_capacity
from parity_tests.ops.pairs import PACKAGES, array, call, operation, tensor
from parity_tests.tolerances import OPERATION

E, N, K = 5, 23, 3


def drawn_choices(rng: np.random.Generator) -> np.ndarray:
    """Of every token, the low ids more often than the high."""
    return np.argsort(rng.random((N, E)) - np.linspace(0.9, 0, E), axis=1)[:, :K]


def drawn_reality(rng: np.random.Generator) -> np.ndarray:
    """Padding before, between and after real tokens."""
    real = rng.random(N) < 0.7
    real[[0, 11, N - 1]] = False
    return real


@pytest.mark.parametrize("factor", [0.3, 0.75, 1.0, 1.25, 2.0])
@pytest.mark.parametrize("padded", [False, True])
def test_places_go_to_tokens_in_their_order(padded: bool, factor: float, rng: np.random.Generator):
    chosen, real = drawn_choices(rng), drawn_reality(rng) if padded else np.ones(N, bool)
    capacity = math.ceil(Fraction(str(factor)) * K * int(real.sum()) / E)
    want, taken = np.full_like(chosen, E), np.zeros(E, int)
    for n, j in np.ndindex(N, K):
        expert = chosen[n, j]
        if real[n] and taken[expert] < capacity:
            want[n, j] = expert
            taken[expert] += 1
    assert factor == 2 or (want[real] == E).any()
    for package in PACKAGES:
        options = {"real": tensor(package, real)} if padded else {}
        got = call(package, "routing.admit", chosen, E, factor=factor, **options)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("package", PACKAGES)
def test_later_tokens_take_no_place_from_earlier_ones(package: str, rng: np.random.Generator):
    chosen, other = drawn_choices(rng), drawn_choices(rng)
    before = call(package, "routing.admit", chosen, E, factor=0.75)
    after = call(package, "routing.admit", np.concatenate([chosen[:13], other[13:]]), E, factor=0.75)
    np.testing.assert_array_equal(before[:13], after[:13])
    assert (before[13:] != after[13:]).any()


@pytest.mark.parametrize("package", PACKAGES)
def test_without_a_factor_only_padding_goes_nowhere(package: str, rng: np.random.Generator):
    chosen, real = drawn_choices(rng), drawn_reality(rng)
    np.testing.assert_array_equal(call(package, "routing.admit", chosen, E), chosen)
    got = call(package, "routing.admit", chosen, E, real=tensor(package, real))
    np.testing.assert_array_equal(got, np.where(real[:, None], chosen, E))


def test_a_place_is_how_many_came_before(rng: np.random.Generator):
    experts = rng.integers(0, E + 1, 40)
    want = [int((experts[:n] == expert).sum()) for n, expert in enumerate(experts)]
    for package in PACKAGES:
        np.testing.assert_array_equal(call(package, "routing.expert_places", experts), want)


@pytest.mark.parametrize("package", PACKAGES)
def test_capacity_is_exact_whether_the_tokens_are_counted_before_or_while_it_runs(package: str):
    # In float64, 1.1 * 50 / 5 is more than 11.
    assert math.ceil(1.1 * 50 / 5) == 12
    function = operation(package, "routing.expert_capacity")
    cases = [(50, 1.1, 5, 1), (50, 1.1, 10, 2), (10**6, 1.27, 1000, 16), (0, 1.5, 3, 2), (7, 1.0, 7, 1), (1, 0.75, 64, 2)]
    for tokens, factor, experts, choices in cases:
        want = math.ceil(Fraction(str(factor)) * choices * tokens / experts)
        assert function(tokens, factor, experts, choices) == want
        count = np.array(tokens, np.int32)
        assert int(function(tensor(package, count), factor, experts, choices)) == want
    traced = jax.jit(lambda tokens: expert_capacity(tokens, 1.27, 1000, 16))(jnp.int32(10**6))
    assert (traced.dtype, int(traced)) == (jnp.int32, 20320)


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.25, 7.0])
@pytest.mark.parametrize("padded", [False, True])
def test_an_expert_takes_the_tokens_that_want_it_most(padded: bool, factor: float, rng: np.random.Generator):
    logits, real = rng.normal(size=(N, E)), drawn_reality(rng) if padded else np.ones(N, bool)
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    capacity = min(math.ceil(Fraction(str(factor)) * int(real.sum()) / E), int(real.sum()))
    for package in PACKAGES:
        options = {"real": tensor(package, real)} if padded else {}
        got = operation(package, "routing.expert_choice")(tensor(package, logits), factor, **options)
        tokens, weights, probabilities = (array(x) for x in got)
        np.testing.assert_allclose(probabilities, scores, **OPERATION)
        assert tokens.shape == weights.shape == (E, min(math.ceil(Fraction(str(factor)) * N / E), N))
        for e in range(E):
            best = sorted(np.flatnonzero(real), key=lambda n: -scores[n, e])[:capacity]
            np.testing.assert_array_equal(tokens[e], best + [N] * (tokens.shape[1] - capacity))
            np.testing.assert_allclose(weights[e, :capacity], scores[best, e], **OPERATION)
            assert not weights[e, capacity:].any()


@pytest.mark.parametrize("package", PACKAGES)
def test_of_equal_tokens_the_first_is_taken(package: str):
    got = operation(package, "routing.expert_choice")(tensor(package, np.zeros((N, E))), 1.0)
    np.testing.assert_array_equal(array(got[0]), [range(5)] * E)


@pytest.mark.parametrize("padded", [False, True])
def test_what_is_taken_is_weighed_with_the_same_gradient(padded: bool, rng: np.random.Generator):
    logits, real, gradients = rng.normal(size=(N, E)), drawn_reality(rng) if padded else None, []
    for package in PACKAGES:
        choose, given = operation(package, "routing.expert_choice"), tensor(package, real)

        def total(logits: Any, choose: Callable = choose, given: Any = given) -> Any:
            weights = choose(logits, 1.25, real=given).weights
            return (weights * weights).sum()

        if package == "jax_transformer":
            gradients.append(array(jax.jit(jax.grad(total))(jnp.asarray(logits))))
        else:
            leaf = torch.tensor(logits, requires_grad=True)
            gradients.append(array(torch.autograd.grad(total(leaf), leaf)[0]))
    np.testing.assert_allclose(*gradients, **OPERATION)
    assert np.abs(gradients[0]).max() > 0.01
    assert not padded or not gradients[0][~real].any()


def test_places_may_be_given_while_it_runs(rng: np.random.Generator):
    chosen, real = jnp.asarray(drawn_choices(rng)), jnp.asarray(drawn_reality(rng))
    compiled = jax.jit(lambda chosen, real: admit(chosen, E, real=real, factor=0.75))(chosen, real)
    np.testing.assert_array_equal(compiled, admit(chosen, E, real=real, factor=0.75))
