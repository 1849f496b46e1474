"""Attention by blocks is attention, and never holds all scores."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_transformer.ops.attention.blockwise import blockwise_attention
from jax_transformer.ops.attention.reference import softmax_attention
from jax_transformer.ops.mask import Mask, bidirectional_mask, causal_mask, cross_mask
from jax_transformer.ops.position_bias import BucketFunction, OffsetBias, SlopeFunction
from parity_tests.jaxprs import largest_array
from parity_tests.ops.packing import packed
from parity_tests.tolerances import HALF_BFLOAT16, KERNEL, SEQUENCE, relative_error

SCALE, BLOCK, HEADS = 0.37, 16, 6


def slopes(rng: np.random.Generator) -> OffsetBias:
    return OffsetBias((), SlopeFunction(HEADS, 8.0, "float64"))


def buckets(rng: np.random.Generator) -> OffsetBias:
    return OffsetBias(jnp.asarray(rng.normal(size=(8, HEADS))), BucketFunction(8, 20, bidirectional=True))


def inputs(rng: np.random.Generator, length: int, keys: int | None = None) -> list[jax.Array]:
    """Queries, keys and values; no two dimensions are the same."""
    keys = keys or length
    shapes = [(2, length, HEADS, 4), (2, keys, 3, 4), (2, keys, 3, 5)]
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


def masks(rng: np.random.Generator, length: int) -> dict[str, Mask]:
    segments = jnp.asarray(packed(rng, length))
    return {
        "causal": causal_mask(length),
        "packed": causal_mask(length, segments),
        "both ways": bidirectional_mask(length),
        "both ways, packed": bidirectional_mask(length, segments),
    }


def results(attend: Callable, given: list, parameters: tuple) -> list[np.ndarray]:
    """What is mixed and the gradients of everything, for a gradient of the mixed that is exact in every dtype."""

    @jax.jit
    def run(given: list, parameters: tuple) -> tuple:
        mixed, pull = jax.vjp(attend, given, parameters)
        return mixed, pull((jnp.arange(mixed.size) % 7 - 3).astype(mixed.dtype).reshape(mixed.shape))

    return [np.asarray(x) for x in jax.tree.leaves(run(given, parameters))]


def assert_defined(
    given: list,
    mask: Mask,
    *,
    softcap: float | None = None,
    sinks: jax.Array | None = None,
    bias: OffsetBias | None = None,
    **sight: int,
):
    """Values and gradients (of queries, keys, values, sinks and bias parameters) are those of the definition."""

    def definition(given: list, parameters: tuple) -> jax.Array:
        sinks, bias = parameters
        added = None if bias is None else bias.at(mask.offsets())
        allowed = mask.allowed(**sight)
        return softmax_attention(*given, allowed, SCALE, softcap=softcap, bias=added, sinks=sinks)[0]

    def blocks(given: list, parameters: tuple) -> jax.Array:
        sinks, bias = parameters
        options = {"softcap": softcap, "bias": bias, "sinks": sinks, "block": BLOCK}
        return blockwise_attention(*given, mask, SCALE, **sight, **options)

    want, got = (results(attend, given, (sinks, bias)) for attend in (definition, blocks))
    for mine, other in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, other, **SEQUENCE)


@pytest.mark.parametrize("length", [1, 16, 37, 67])
@pytest.mark.parametrize("kind", ["causal", "packed", "both ways", "both ways, packed"])
def test_blocks_give_the_definition_and_its_gradients(kind: str, length: int, rng: np.random.Generator):
    assert_defined(inputs(rng, length), masks(rng, length)[kind])


@pytest.mark.parametrize(
    "options",
    [
        {"softcap": 0.8},
        {"sinks": True},
        {"bias": slopes},
        {"bias": buckets},
        {"window": 1},
        {"window": 9, "sink_tokens": 3},
        {"chunk_size": 1},
        {"chunk_size": 21},
        {"chunk_size": 9, "sinks": True, "bias": buckets},
        {"window": 20, "softcap": 0.8, "sinks": True, "bias": buckets},
    ],
)
@pytest.mark.parametrize("kind", ["causal", "packed", "both ways, packed"])
def test_every_option_is_that_of_the_definition(kind: str, options: dict, rng: np.random.Generator):
    made: dict[str, Any] = dict(options)
    if "sinks" in options:
        made["sinks"] = jnp.asarray(rng.normal(size=HEADS))
    if "bias" in options:
        made["bias"] = options["bias"](rng)
    assert_defined(inputs(rng, 53), masks(rng, 53)[kind], **made)


@pytest.mark.parametrize(("length", "keys"), [(7, 41), (41, 7), (1, 20)])
def test_queries_and_keys_of_two_sequences(length: int, keys: int, rng: np.random.Generator):
    source = bidirectional_mask(keys, jnp.asarray(packed(rng, keys)))
    assert_defined(inputs(rng, length, keys), cross_mask(causal_mask(length), source), softcap=0.8)


def test_queries_in_the_middle_of_remembered_keys(rng: np.random.Generator):
    # As in decoding: slots 3 and 9 hold padding, those after the queries are still empty.
    slots = jnp.ones((2, 40), jnp.int32).at[:, 30:].set(0).at[0, 3].set(0).at[1, 9].set(0)
    positions = jnp.cumsum(slots, axis=1, dtype=jnp.int32) - 1
    mask = Mask(positions[:, 26:30], positions, slots[:, 26:30], slots)
    assert_defined(inputs(rng, 4, 40), mask)
    assert_defined(inputs(rng, 4, 40), mask, window=6, sink_tokens=2)
    assert_defined(inputs(rng, 4, 40), mask, chunk_size=7)


@pytest.mark.parametrize("sinks", [None, np.ones(HEADS)])
def test_a_query_without_keys_gives_zeros_and_no_gradient(sinks: np.ndarray | None, rng: np.random.Generator):
    given, segments = inputs(rng, 37), jnp.asarray(packed(rng, 37))
    mask, padding = causal_mask(37, segments), np.asarray(segments == 0)
    sinks = None if sinks is None else jnp.asarray(sinks)
    attend = lambda given, _: blockwise_attention(*given, mask, SCALE, sinks=sinks, block=BLOCK)  # noqa: E731
    mixed, *gradients = results(attend, given, ())
    assert not mixed[padding].any()
    assert np.abs(mixed[~padding]).min() > 0
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert not gradient[padding].any()


@pytest.mark.parametrize("name", ["causal", "window", "chunks", "segments"])
def test_blocks_that_nobody_sees_are_not_computed(name: str, rng: np.random.Generator):
    # Whatever is computed with these keys and values is NaN, even where it is multiplied by zero.
    q, k, v = inputs(rng, 64)
    unseen, sight, segments = slice(32, 64), {}, None
    if name in ("window", "chunks"):
        unseen, sight = slice(0, 32), {"window": 10} if name == "window" else {"chunk_size": 40}
    if name == "segments":
        segments = jnp.repeat(jnp.asarray([[1, 2], [3, 4]], jnp.int32), 32, axis=1)
        unseen = slice(0, 32)
    judged = slice(48, 64) if unseen.start == 0 else slice(0, 32)
    k, v = k.at[:, unseen].set(jnp.nan), v.at[:, unseen].set(jnp.nan)

    def mixed(given: tuple, _: tuple) -> jax.Array:
        out = blockwise_attention(*given, causal_mask(64, segments), SCALE, block=BLOCK, **sight)
        return out[:, judged]

    out, dq, _, _ = results(mixed, [q, k, v], ())
    assert np.isfinite(out).all()
    assert np.isfinite(dq[:, judged]).all()
    seen_later = {"causal": slice(32, 64), "segments": slice(0, 32)}.get(name, slice(16, 48))
    out = blockwise_attention(q, k, v, causal_mask(64, segments), SCALE, block=BLOCK, **sight)
    assert np.isnan(out[:, seen_later]).any()


@pytest.mark.parametrize("window", [None, 100])
def test_forward_and_backward_never_hold_all_scores(window: int | None, rng: np.random.Generator):
    length = 1024
    given, mask, bias = inputs(rng, length), causal_mask(length, jnp.asarray(packed(rng, length))), buckets(rng)

    def blocks(given: list, bias: OffsetBias) -> jax.Array:
        return blockwise_attention(*given, mask, SCALE, window=window, softcap=0.8, bias=bias, block=64).sum()

    def definition(given: list, bias: OffsetBias) -> jax.Array:
        options = {"softcap": 0.8, "bias": bias.at(mask.offsets())}
        return softmax_attention(*given, mask.allowed(window), SCALE, **options)[0].sum()

    got, whole = (largest_array(jax.grad(f, argnums=(0, 1)), given, bias) for f in (blocks, definition))
    assert whole >= 2 * HEADS * length**2
    assert got < length**2 / 8


def test_layers_may_be_scanned_and_recomputed(rng: np.random.Generator):
    (q, k, v), mask = inputs(rng, 37), causal_mask(37)

    def loss(attend: Callable, q: jax.Array) -> jax.Array:
        step = jax.checkpoint(lambda x, _: (x + attend(x, k, v[..., :4]), None))
        return jnp.sum(jnp.sin(jax.lax.scan(step, q, None, length=2)[0]))

    want = jax.grad(lambda q: loss(lambda *x: softmax_attention(*x, mask.allowed(), SCALE)[0], q))(q)
    got = jax.grad(lambda q: loss(lambda *x: blockwise_attention(*x, mask, SCALE, block=BLOCK), q))(q)
    np.testing.assert_allclose(got, want, **SEQUENCE)


@pytest.mark.parametrize("dtype", KERNEL)
def test_narrow_types_stay_near_the_definition(dtype: str, rng: np.random.Generator):
    given = [x.astype(dtype) for x in inputs(rng, 150)]
    mask = causal_mask(150)
    attend = lambda given, _: blockwise_attention(*given, mask, SCALE, block=BLOCK)  # noqa: E731
    exact = results(
        lambda given, _: softmax_attention(*given, mask.allowed(), SCALE)[0], [x.astype("float64") for x in given], ()
    )
    got = results(attend, given, ())
    for mine, want in zip(got, exact, strict=True):
        assert mine.dtype == np.asarray(given[0]).dtype
        assert relative_error(mine, want) <= KERNEL[dtype]


def test_bfloat16_is_added_up_in_float32():
    def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> tuple[jax.Array, Any]:
        given = [jnp.asarray(x, "bfloat16")[None, :, None, :] for x in (q, k, v)]
        mask = cross_mask(causal_mask(len(q)), bidirectional_mask(len(k)))
        return jax.vjp(lambda *x: blockwise_attention(*x, mask, 1.0, block=1), *given)

    # Scores 256 and 257: in bfloat16 both are 256, and the two keys would share the query evenly.
    mixed, _ = attend(np.ones((1, 2)), np.array([[256.0, 0.0], [256.0, 1.0]]), np.array([[0.0], [1.0]]))
    np.testing.assert_allclose(float(mixed[0, 0, 0, 0]), 1 / (1 + np.exp(-1)), rtol=HALF_BFLOAT16)
    # Above 256, adding 1 changes no bfloat16.
    mixed, _ = attend(np.ones((1, 2)), np.zeros((300, 2)), np.ones((300, 1)))
    assert float(mixed[0, 0, 0, 0]) == 1.0
    mixed, pull = attend(np.ones((300, 2)), np.zeros((1, 2)), np.ones((1, 1)))
    assert float(pull(jnp.ones_like(mixed))[2][0, 0, 0, 0]) == 300.0
