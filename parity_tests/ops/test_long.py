"""Fast forms keep their digits over thousands of tokens: against the definition in float64, on the same rounded inputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_transformer.ops.attention.blockwise import blockwise_attention
from jax_transformer.ops.attention.reference import softmax_attention
from jax_transformer.ops.attention.windowed import windowed_attention
from jax_transformer.ops.delta_rule.chunked import chunked_delta_rule
from jax_transformer.ops.delta_rule.recurrent import recurrent_delta_rule
from jax_transformer.ops.experts.dense import Experts, dense_experts, token_choice_weights
from jax_transformer.ops.experts.grouped import grouped_experts
from jax_transformer.ops.linear_attention.chunked import chunked_linear_attention
from jax_transformer.ops.linear_attention.recurrent import recurrent_linear_attention
from jax_transformer.ops.mask import causal_mask
from parity_tests.ops.mixtures import jax_activate
from parity_tests.ops.packing import packed
from parity_tests.tolerances import SEQUENCE, epsilon, long_budget, relative_error

LENGTH, WINDOW, SCALE = 4096, 200, 0.25
HEADS, KV_HEADS, HEAD_DIM = 2, 1, 16
NUM_EXPERTS, HIDDEN = 8, 24


def forms(kind: str, length: int, segments: jax.Array | None) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The fast form with its own sizes of blocks, and the definition or, for linear attention, the form without chunks, which
    the tests of its own bind to the definition."""
    mask = causal_mask(length, segments)
    return {
        "blockwise": (
            lambda q, k, v: blockwise_attention(q, k, v, mask, SCALE),
            lambda q, k, v: softmax_attention(q, k, v, mask.allowed(), SCALE)[0],
        ),
        "windowed": (
            lambda q, k, v: windowed_attention(q, k, v, mask, SCALE, window=WINDOW),
            lambda q, k, v: softmax_attention(q, k, v, mask.allowed(WINDOW), SCALE)[0],
        ),
        "linear": (
            lambda q, k, v: chunked_linear_attention(q, k, v, segments=segments)[0],
            lambda q, k, v: recurrent_linear_attention(q, k, v, segments=segments)[0],
        ),
        "delta": (
            lambda *x: chunked_delta_rule(*x, segments=segments)[0],
            lambda *x: recurrent_delta_rule(*x, segments=segments)[0],
        ),
    }[kind.split(",")[0]]


KINDS = ["blockwise", "windowed", "linear", "delta, kept", "delta, forgotten", "delta, mixed"]
"""The log-decays of the delta rule are near 0, which keeps the state, about -20, which empties it, or some of each."""


def inputs(rng: np.random.Generator, kind: str, batch: int = 1, length: int = LENGTH) -> list[np.ndarray]:
    q, k, v = (rng.normal(size=(batch, length, heads, HEAD_DIM)) for heads in (HEADS, KV_HEADS, KV_HEADS))
    if not kind.startswith("delta"):
        return [q, k, v]
    q, v = q[:, :, :KV_HEADS], rng.normal(size=(batch, length, HEADS, HEAD_DIM))
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    weak, strong = (-size * rng.uniform(0.5, 1, size=(batch, length, HEADS)) for size in (1e-5, 20.0))
    forgets = {"kept": 0.0, "mixed": 0.01, "forgotten": 1.0}[kind.removeprefix("delta, ")]
    log_decay = np.where(rng.random(weak.shape) < forgets, strong, weak)
    return [q, k, v, log_decay, rng.uniform(size=log_decay.shape)]


def results(form: Callable[..., Any], given: list[Any]) -> list[np.ndarray]:
    """What it makes of the inputs, and their gradients for a gradient of the outputs that is exact in every dtype."""

    @jax.jit
    def run(*given: jax.Array) -> Any:
        mixed, pull = jax.vjp(form, *given)
        return mixed, pull((jnp.arange(mixed.size) % 7 - 3).astype(mixed.dtype).reshape(mixed.shape))

    return [np.asarray(x).astype(np.float64) for x in jax.tree.leaves(run(*given))]


@pytest.mark.parametrize("length", [37, 299])
@pytest.mark.parametrize("kind", KINDS)
def test_ragged_lengths_in_blocks_of_the_usual_sizes(kind: str, length: int, rng: np.random.Generator):
    # 37 tokens are one short chunk, 299 several and two blocks, none of them full.
    given, segments = [jnp.asarray(x) for x in inputs(rng, kind, 2, length)], jnp.asarray(packed(rng, length))
    for told in (None, segments):
        got, want = (results(form, given) for form in forms(kind, length, told))
        for mine, truth in zip(got, want, strict=True):
            np.testing.assert_allclose(mine, truth, **SEQUENCE)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_those_of_rounded_inputs(kind: str, dtype: str, rng: np.random.Generator):
    assert_rounded_inputs(*forms(kind, LENGTH, None), inputs(rng, kind), dtype, rng)


def assert_rounded_inputs(
    fast: Callable[..., Any],
    definition: Callable[..., Any],
    drawn: list[np.ndarray],
    dtype: str,
    rng: np.random.Generator,
    layers: int = 1,
):
    """The fast form is as near the definition as the inputs, rounded once more, allow."""
    given = [jnp.asarray(x, dtype) for x in drawn]
    exact, eps = [x.astype("float64") for x in given], epsilon(dtype)
    shaken = [x * (1 + eps * rng.uniform(-0.5, 0.5, size=x.shape)) for x in exact]
    want, moved, got = results(definition, exact), results(definition, shaken), results(fast, given)
    for n, (mine, truth, other) in enumerate(zip(got, want, moved, strict=True)):
        growth = relative_error(other, truth) / eps
        assert relative_error(mine, truth) < long_budget(eps, growth, layers), f"result {n}"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("gated", "block"), [(True, None), (False, None), (True, 8)])
def test_errors_of_experts_are_those_of_rounded_inputs(gated: bool, block: int | None, dtype: str, rng: np.random.Generator):
    # Routed in float64: rounding may not choose another expert. With small blocks every token wants the same two experts, and
    # the gradients of their kernels are sums of many pieces.
    logits, parameters = rng.normal(size=(LENGTH, NUM_EXPERTS)), drawn_experts(rng, gated)
    logits[:, :2] += 0 if block is None else 100
    chosen = jnp.asarray(np.argsort(-logits, axis=1)[:, :2])
    x, weights = rng.normal(size=(LENGTH, HEAD_DIM)), np.take_along_axis(np.exp(logits), np.asarray(chosen), axis=1)

    def fast(x: jax.Array, weights: jax.Array, *own: jax.Array) -> jax.Array:
        return grouped_experts(x, chosen, weights, Experts(*own), jax_activate, block=block)

    def definition(x: jax.Array, weights: jax.Array, *own: jax.Array) -> jax.Array:
        return dense_experts(x, token_choice_weights(chosen, weights, NUM_EXPERTS), Experts(*own), jax_activate)

    drawn = [x, weights / weights.sum(axis=1, keepdims=True), *parameters]
    assert_rounded_inputs(fast, definition, drawn, dtype, rng, layers=2)


def drawn_experts(rng: np.random.Generator, gated: bool) -> list[np.ndarray]:
    """Kernels up, down and, if there are any, of gates, which keep the size of what they multiply."""
    shapes = [(HEAD_DIM, HIDDEN), (HIDDEN, HEAD_DIM), (HEAD_DIM, HIDDEN)][: 3 if gated else 2]
    return [rng.normal(size=(NUM_EXPERTS, *shape)) * shape[0] ** -0.5 for shape in shapes]
