"""Attention through a window: a block of queries meets its own and the neighbouring blocks of keys, and no others."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jax_transformer.ops.attention.reference import softmax_attention
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.mask import Mask
from jax_transformer.ops.position_bias import OffsetBias

SMALLEST_BLOCK = 64
"""Blocks of fewer tokens are matrix products too small to be fast."""


def windowed_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K V"],
    mask: Mask,
    scale: float,
    *,
    window: int,
    sink_tokens: int = 0,
    softcap: float | None = None,
    bias: OffsetBias | None = None,
    sinks: Float[Array, " N"] | None = None,
    drop: tuple[float, Noise | None] = (0.0, None),
) -> Float[Array, "B T N V"]:
    """``softmax_attention`` with ``mask.allowed(window)``, in time and memory of ``T * window`` rather than ``T * T``.

    For a sequence over itself, its segments in one piece each: positions of the same segment then differ as indices do, so that
    what is inside the window is in the query's block of ``max(window, 64)`` tokens, in the one before it or, if the mask is not
    causal, in the one after it. ``drop`` draws other noise than the definition does.

    Raises:
        ValueError: Queries and keys differ in number, or there are ``sink_tokens``, which are in no neighbouring block.
    """
    batch, length = q.shape[:2]
    if k.shape[1] != length:
        raise ValueError(f"{length} queries and {k.shape[1]} keys: windowed attention is that of a sequence over itself")
    if sink_tokens:
        raise ValueError(f"sink_tokens={sink_tokens}: windowed attention cannot see beyond its window")
    size, sides = min(max(window, SMALLEST_BLOCK), length), 1 if mask.causal else 2
    segments = jnp.ones((batch, length), jnp.int32) if mask.q_segments is None else mask.q_segments
    positions = jnp.broadcast_to(mask.q_positions, (batch, length))
    own, near = ([_blocks(x, size, n) for x in (positions, segments)] for n in (0, sides))
    local = Mask(own[0], near[0], own[1], near[1], mask.causal)
    q, k, v = (_blocks(x, size, n) for x, n in ((q, 0), (k, sides), (v, sides)))
    added = None if bias is None else bias.at(local.offsets())
    options = {"softcap": softcap, "bias": added, "sinks": sinks, "drop": drop}
    mixed, _ = softmax_attention(q, k, v, local.allowed(window), scale, **options)
    return mixed.reshape(batch, -1, *mixed.shape[2:])[:, :length]


def _blocks(x: Shaped[Array, "B T *D"], size: int, neighbours: int) -> Shaped[Array, "rows near *D"]:
    """Blocks of ``size`` tokens as rows of a batch, each between that before it and, of two neighbours, that after it.

    Zeros fill the last block and stand beyond both ends: segment 0, which nobody sees.
    """
    batch, length = x.shape[:2]
    count = -(-length // size)
    before, after = size * min(neighbours, 1), size * max(neighbours - 1, 0)
    padding = [(0, 0), (before, count * size - length + after)] + [(0, 0)] * (x.ndim - 2)
    parts = jnp.pad(x, padding).reshape(batch, -1, size, *x.shape[2:])
    near = jnp.concatenate([parts[:, n : n + count] for n in range(neighbours + 1)], axis=2)
    return near.reshape(batch * count, -1, *x.shape[2:])
