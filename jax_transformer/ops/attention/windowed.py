"""Attention through a window: a block of queries meets its own and the neighbouring blocks of keys, and no others."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jax_transformer.ops.attention.reference import softmax_attention
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.mask import Mask
from jax_transformer.ops.position_bias import OffsetBias

SMALLEST_BLOCK = 64
"""Blocks of fewer tokens are matrix products too small to be fast."""

SCORES_AT_ONCE = 1 << 22
"""Of more, the next blocks wait for those before them: the time per token then grows with the memory that scores take."""


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
    """``softmax_attention`` with ``mask.allowed(window)``, in time of ``T * window`` rather than ``T * T`` and memory of ``T``.

    For a sequence over itself, its segments in one piece each: positions of the same segment then differ as indices do, so that
    what is inside the window is in the query's block of ``max(window, 64)`` tokens, in the one before it or, if the mask is not
    causal, in the one after it. Scores are computed anew in the backward pass. ``drop`` draws other noise than the definition.
    Raises ValueError where queries and keys differ in number, or for ``sink_tokens``, which are in no neighbouring block.
    """
    batch, length = q.shape[:2]
    if k.shape[1] != length:
        raise ValueError(f"{length} queries and {k.shape[1]} keys: windowed attention is that of a sequence over itself")
    if sink_tokens:
        raise ValueError(f"sink_tokens={sink_tokens}: windowed attention cannot see beyond its window")
    size, sides = min(max(window, SMALLEST_BLOCK), length), 1 if mask.causal else 2
    at_once = max(SCORES_AT_ONCE // (batch * q.shape[2] * size * size * (1 + sides)), 1)
    marks = _marks(mask, batch)
    own, near = ([_blocks(x, size, n, at_once) for x in (*own, *marks)] for own, n in (((q,), 0), ((k, v), sides)))
    rate, noise = drop
    noises = None if noise is None else noise.split(len(own[0]))

    def mix(part: tuple[list[Array], list[Array], Noise | None]) -> Float[Array, "rows size N V"]:
        (q, q_positions, q_segments), (k, v, k_positions, k_segments), noise = part
        local = Mask(q_positions, k_positions, q_segments, k_segments, mask.causal)
        options = {"softcap": softcap, "bias": None if bias is None else bias.at(local.offsets()), "sinks": sinks}
        return softmax_attention(q, k, v, local.allowed(window), scale, drop=(rate, noise), **options)[0]

    return _joined(jax.lax.map(jax.checkpoint(mix), (own, near, noises)), batch)[:, :length]


def _marks(mask: Mask, batch: int) -> tuple[Int[Array, "B T"], Int[Array, "B T"]]:
    """Positions and segments of the queries, row by row."""
    positions = jnp.broadcast_to(mask.q_positions, (batch, mask.q_positions.shape[1]))
    return positions, jnp.ones_like(positions) if mask.q_segments is None else mask.q_segments


def _blocks(x: Shaped[Array, "B T *D"], size: int, neighbours: int, at_once: int) -> Shaped[Array, "parts rows near *D"]:
    """Blocks of ``size`` tokens as rows of a batch, each between that before it and, of two neighbours, that after it;
    ``at_once`` of each sequence in a part.

    Zeros fill the last part and stand beyond both ends: segment 0, which nobody sees.
    """
    batch, length = x.shape[:2]
    count = -(-length // size)
    parts = -(-count // at_once)
    at_once = -(-count // parts)
    before, after = size * min(neighbours, 1), size * max(neighbours - 1, 0)
    padding = [(0, 0), (before, parts * at_once * size - length + after)] + [(0, 0)] * (x.ndim - 2)
    blocks = jnp.pad(x, padding).reshape(batch, -1, size, *x.shape[2:])
    near = jnp.concatenate([blocks[:, n : n + parts * at_once] for n in range(neighbours + 1)], axis=2)
    near = jnp.moveaxis(near.reshape(batch, parts, at_once, *near.shape[2:]), 1, 0)
    return near.reshape(parts, batch * at_once, *near.shape[3:])


def _joined(parts: Float[Array, "parts rows size N V"], batch: int) -> Float[Array, "B padded N V"]:
    """The way back."""
    count, _, _, heads, width = parts.shape
    by_sequence = jnp.moveaxis(parts.reshape(count, batch, -1, heads, width), 0, 1)
    return by_sequence.reshape(batch, -1, heads, width)
