"""The forms of a mixture that do only the work that is needed: for any load they are the definition."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_transformer.ops.experts.dense import Experts, Weigh, dense_experts, expert_choice_weights, token_choice_weights
from jax_transformer.ops.experts.grouped import chosen_tokens, grouped_experts
from jax_transformer.ops.experts.layout import MOST_BLOCKS
from parity_tests.ops.mixtures import KINDS, D, E, F, Form, assert_same, drawn_choices, jax_activate, outcome, parameters
from parity_tests.ops.pairs import array
from parity_tests.tolerances import SEQUENCE


def by_token(x: Any, weights: Any, experts: Experts, chosen: Any, weigh: Weigh = "output") -> Any:
    """The definition for experts that tokens chose."""
    return dense_experts(x, token_choice_weights(chosen, weights, experts.up.shape[0]), experts, jax_activate, weigh=weigh)


def by_expert(x: Any, weights: Any, experts: Experts, tokens: Any, weigh: Weigh = "output") -> Any:
    """The definition for tokens that experts chose."""
    return dense_experts(x, expert_choice_weights(tokens, weights, x.shape[0]), experts, jax_activate, weigh=weigh)


def taken(x: Any, weights: Any, experts: Experts, tokens: Any, weigh: Weigh = "output") -> Any:
    return chosen_tokens(x, tokens, weights, experts, jax_activate, weigh=weigh)


@cache
def grouped(block: int | None = None) -> Form:
    return lambda x, weights, experts, chosen: grouped_experts(x, chosen, weights, experts, jax_activate, block=block)


@pytest.mark.parametrize(("gated", "biased"), KINDS)
@pytest.mark.parametrize("block", [None, 3])
def test_groups_give_the_definition_and_its_gradients(block: int | None, gated: bool, biased: bool, rng: np.random.Generator):
    chosen = drawn_choices(rng, 23, 2)
    x, weights, p = rng.normal(size=(23, D)), rng.normal(size=(23, 2)), parameters(rng, gated, biased)
    assert_same(outcome(grouped(block), x, weights, p, chosen), outcome(by_token, x, weights, p, chosen))


@pytest.mark.parametrize("k", range(1, E + 1))
@pytest.mark.parametrize("n", [1, 40])
def test_any_number_of_tokens_and_choices(n: int, k: int, rng: np.random.Generator):
    chosen = drawn_choices(rng, n, k)
    x, weights, p = rng.normal(size=(n, D)), rng.normal(size=(n, k)), parameters(rng, True, True)
    assert_same(outcome(grouped(), x, weights, p, chosen), outcome(by_token, x, weights, p, chosen))


UNEVEN = {
    "one expert": lambda rng: np.tile([2, E], (23, 1)),
    "the first and the last": lambda rng: np.where(rng.random((23, 1)) < 0.9, [[0, E - 1]], [[E - 1, 0]]),
    "mostly one": lambda rng: np.where(rng.random((23, 2)) < 0.2, [[0, 4]], [[3, 1]]),
    "full blocks": lambda rng: np.repeat([[1, 2], [2, 4], [4, 1]], 8, axis=0)[:23],
    "dropped": lambda rng: np.where(rng.random((23, 2)) < 0.4, E, drawn_choices(rng, 23, 2)),
    "all dropped": lambda rng: np.full((23, 2), E),
}


@pytest.mark.parametrize("block", [1, 4, None, 128])
@pytest.mark.parametrize("load", UNEVEN)
def test_any_load(load: str, block: int | None, rng: np.random.Generator):
    chosen = UNEVEN[load](rng)
    x, weights, p = rng.normal(size=(23, D)), rng.normal(size=chosen.shape), parameters(rng, True, True)
    got = outcome(grouped(block), x, weights, p, chosen)
    assert_same(got, outcome(by_token, x, weights, p, chosen))
    assert not got.gradients["weights"][chosen == E].any()
    assert got.outputs[(chosen != E).any(1)].all()


@pytest.mark.parametrize(("gated", "biased"), KINDS)
@pytest.mark.parametrize("n", [1, 6, 23])
def test_chosen_tokens_give_the_definition_and_its_gradients(n: int, gated: bool, biased: bool, rng: np.random.Generator):
    # A token may be taken by several experts or by none, and the token n is none.
    tokens = np.argsort(rng.random((E, n + 1)), axis=1)[:, : n // 2 + 1]
    x, weights, p = rng.normal(size=(n, D)), rng.normal(size=tokens.shape), parameters(rng, gated, biased)
    assert_same(outcome(taken, x, weights, p, tokens), outcome(by_expert, x, weights, p, tokens))


@pytest.mark.parametrize("biased", [True, False])
def test_weighed_inputs_give_the_definition_and_its_gradients(biased: bool, rng: np.random.Generator):
    x, p = rng.normal(size=(23, D)), parameters(rng, True, biased)
    chosen, tokens = UNEVEN["dropped"](rng), np.argsort(rng.random((E, 24)), axis=1)[:, :12]
    by_pair = partial(grouped_experts, activate=jax_activate, weigh="input", block=4)
    for got, want, ids in (
        (lambda x, w, experts, ids: by_pair(x, ids, w, experts), by_token, chosen),
        (partial(taken, weigh="input"), by_expert, tokens),
    ):
        weights = np.where(rng.random(ids.shape) < 0.1, 0.0, rng.normal(size=ids.shape))
        assert_same(outcome(got, x, weights, p, ids), outcome(partial(want, weigh="input"), x, weights, p, ids))


def test_an_expert_that_nobody_uses_is_not_computed(rng: np.random.Generator):
    chosen = np.array([[0, 3]] * 9)
    x, weights, p = rng.normal(size=(9, D)), rng.normal(size=(9, 2)), parameters(rng, True, True)
    want = outcome(by_token, x, weights, p, chosen)
    for value in p.values():
        value[[1, 2, 4]] = np.nan
    assert np.isnan(outcome(by_token, x, weights, p, chosen).outputs).all()
    assert_same(outcome(grouped(4), x, weights, p, chosen), want)


def largest_array(jaxpr: Any) -> int:
    """Elements of the largest array anywhere in a computation."""
    inner = [x for x in jax.tree.leaves([e.params for e in jaxpr.eqns], is_leaf=hasjaxpr) if hasjaxpr(x)]
    made = [variable.aval.size for equation in jaxpr.eqns for variable in equation.outvars]
    return max([0, *made, *(largest_array(getattr(x, "jaxpr", x)) for x in inner)])


def hasjaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


def test_memory_is_that_of_the_rows_and_holds_no_copies_of_kernels(rng: np.random.Generator):
    n, k, block, largest = 512, 2, 2, []

    def total(x: Any, weights: Any, experts: Experts, chosen: Any) -> Any:
        return grouped(block)(x, weights, experts, chosen).sum()

    for num_experts in (8, 32):
        chosen = jnp.asarray(drawn_choices(rng, n, k, num_experts))
        experts = Experts(**jax.tree.map(jnp.asarray, parameters(rng, True, True, num_experts)))
        jaxpr = jax.make_jaxpr(jax.grad(total, (0, 1, 2)))(jnp.ones((n, D)), jnp.ones((n, k)), experts, chosen).jaxpr
        largest.append(largest_array(jaxpr))
        assert largest[-1] <= (n * k + num_experts * (block - 1) + MOST_BLOCKS * block) * F
    assert largest[0] >= n * k * F


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_sums_are_float32_at_least(dtype: str, rng: np.random.Generator):
    # 300 tokens of one expert: in bfloat16 a sum of ones stays at 256, and 1 + 2^-9 is 1.
    ones = {"up": np.ones((1, 1, 1)), "down": np.ones((1, 1, 1))}
    experts = Experts(**{name: jnp.asarray(value, dtype) for name, value in ones.items()})
    chosen = jnp.zeros((300, 1), jnp.int32)

    def total(experts: Experts) -> jax.Array:
        return grouped_experts(jnp.ones((300, 1), dtype), chosen, jnp.ones((300, 1)), experts, lambda x: x, block=1).sum()

    gradient = jax.grad(total)(experts)
    assert gradient.up.dtype == gradient.down.dtype == dtype
    np.testing.assert_array_equal(array(gradient.down), 300)
    two = Experts(*(jnp.concatenate([x, x]) for x in experts[:2]))
    one, ids, weights = jnp.ones((1, 1), dtype), jnp.arange(2)[None], jnp.asarray([[1 + 2.0**-9, -1]], jnp.float32)
    for y in (
        grouped_experts(one, ids, weights, two, lambda x: x),
        chosen_tokens(one, 0 * ids.T, weights.T, two, lambda x: x),
    ):
        assert y.dtype == dtype
        np.testing.assert_array_equal(array(y), 2.0**-9)


def test_layers_may_be_scanned_and_recomputed(rng: np.random.Generator):
    chosen, layers = jnp.asarray(drawn_choices(rng, 9, 2)), [parameters(rng, True, True) for _ in range(2)]
    stacked = Experts(**{name: jnp.stack([p[name] for p in layers]) for name in layers[0]})
    x, weights = jnp.asarray(rng.normal(size=(9, D))), jnp.asarray(rng.normal(size=(9, 2)))

    def scanned(stacked: Experts) -> jax.Array:
        layer = jax.checkpoint(lambda x, experts: (grouped(4)(x, weights, experts, chosen), None))
        return jnp.sum(jnp.sin(jax.lax.scan(layer, x, stacked)[0]))

    def one_by_one(stacked: Experts) -> jax.Array:
        first, second = (jax.tree.map(lambda v, n=n: v[n], stacked) for n in range(2))
        return jnp.sum(jnp.sin(by_token(by_token(x, weights, first, chosen), weights, second, chosen)))

    got, want = (jax.jit(jax.grad(function))(stacked) for function in (scanned, one_by_one))
    for mine, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(mine, other, **SEQUENCE)
