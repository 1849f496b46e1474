"""Linear attention in time and memory O(T): inside a chunk by its definition, between chunks by sums that are carried."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_transformer.ops.linear_attention.reference import EPS, feature_map
from jax_transformer.ops.precision import at_least_float32, matmul_precision
from jax_transformer.ops.segments import segment_runs


class _Chunks(NamedTuple):
    """A sequence cut into M chunks of C tokens, keys and queries after the feature map; keys of padding are 0."""

    q: Float[Array, "M B K G C H"]
    k: Float[Array, "M B K C H"]
    v: Float[Array, "M B K C V"]
    runs: Int[Array, "M B C"]


class _Carried(NamedTuple):
    """What comes into each chunk from one side, and which of its tokens belong to the segment that it is of."""

    sums: Float[Array, "M B K H V"]
    norms: Float[Array, "M B K H"]
    reads: Bool[Array, "M B C"]


def chunked_linear_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K V"],
    *,
    segments: Int[Array, "B T"] | None = None,
    state: tuple[Float[Array, "B K H V"], Float[Array, "B K H"]] | None = None,
    eps: float = EPS,
    chunk: int = 64,
) -> tuple[Float[Array, "B T N V"], tuple[Float[Array, "B K H V"], Float[Array, "B K H"]]]:
    """What ``recurrent_linear_attention`` computes, as matmuls over chunks of ``chunk`` tokens."""
    chunks = _cut(q, k, v, segments, chunk)
    if state is None:
        state = _empty(chunks)
    ends = chunks.runs[..., -1]
    # What comes into the first chunk is of run 0, which is the one that continues the caller's state.
    entries = jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]])
    carried, state = _carry(chunks, ends, entries, (state[0].astype(chunks.k.dtype), state[1].astype(chunks.k.dtype)))
    size = chunks.k.shape[-2]
    return _mix(chunks, jnp.tri(size, dtype=bool), [carried], eps, segments, v), state


def chunked_bidirectional_linear_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K V"],
    *,
    segments: Int[Array, "B T"] | None = None,
    eps: float = EPS,
    chunk: int = 64,
) -> Float[Array, "B T N V"]:
    """``linear_attention`` of every token over the whole of its segment; padding (segment 0) is not seen and gets zeros."""
    chunks = _cut(q, k, v, segments, chunk)
    firsts, lasts = chunks.runs[..., 0], chunks.runs[..., -1]
    nothing = jnp.full_like(firsts[:1], -1)
    before, _ = _carry(chunks, lasts, jnp.concatenate([nothing, lasts[:-1]]), _empty(chunks))
    after, _ = _carry(chunks, firsts, jnp.concatenate([firsts[1:], nothing]), _empty(chunks), reverse=True)
    size = chunks.k.shape[-2]
    return _mix(chunks, jnp.ones((size, size), bool), [before, after], eps, segments, v)


def _cut(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K V"],
    segments: Int[Array, "B T"] | None,
    chunk: int,
) -> _Chunks:
    (batch, length, kv_heads, head_dim), dtype = k.shape, at_least_float32(v.dtype)
    size = min(chunk, length)
    segments = jnp.ones((batch, length), jnp.int32) if segments is None else segments

    def cut(x: Array) -> Array:
        padded = jnp.pad(x, ((0, 0), (0, -length % size), *((0, 0) for _ in x.shape[2:])))
        return jnp.moveaxis(padded.reshape(batch, -1, size, *x.shape[2:]), 1, 0)

    queries = feature_map(q.astype(dtype)).reshape(batch, length, kv_heads, -1, head_dim)
    keys = jnp.where((segments != 0)[:, :, None, None], feature_map(k.astype(dtype)), 0.0)
    runs = segment_runs(jnp.pad(segments, ((0, 0), (0, -length % size))))
    return _Chunks(
        jnp.moveaxis(cut(queries), 2, 4),
        jnp.moveaxis(cut(keys), 2, 3),
        jnp.moveaxis(cut(v.astype(dtype)), 2, 3),
        jnp.moveaxis(runs.reshape(batch, -1, size), 1, 0),
    )


def _empty(chunks: _Chunks) -> tuple[Float[Array, "B K H V"], Float[Array, "B K H"]]:
    norms = jnp.zeros_like(chunks.k[0, :, :, 0])
    return jnp.zeros((*norms.shape, chunks.v.shape[-1]), norms.dtype), norms


def _carry(
    chunks: _Chunks,
    edges: Int[Array, "M B"],
    entries: Int[Array, "M B"],
    state: tuple[Float[Array, "B K H V"], Float[Array, "B K H"]],
    reverse: bool = False,
) -> tuple[_Carried, tuple[Float[Array, "B K H V"], Float[Array, "B K H"]]]:
    """Sums that come into each chunk and those that leave the last: of the run at its leaving edge and at its entry."""
    leaving = (chunks.runs == edges[..., None])[:, :, None, :, None]
    keys = jnp.where(leaving, chunks.k, 0.0)
    sums = jnp.einsum("MBKCH,MBKCV->MBKHV", keys, chunks.v, precision=matmul_precision(keys.dtype))

    def step(carry, added):
        keep, *parts = added
        old = [jnp.where(keep.reshape(-1, *(1,) * (x.ndim - 1)), x, 0.0) for x in carry]
        return (old[0] + parts[0], old[1] + parts[1]), carry

    state, (before, norms) = jax.lax.scan(step, state, (edges == entries, sums, jnp.sum(keys, axis=-2)), reverse=reverse)
    return _Carried(before, norms, chunks.runs == entries[..., None]), state


def _mix(
    chunks: _Chunks,
    order: Bool[Array, "C C"],
    sides: list[_Carried],
    eps: float,
    segments: Int[Array, "B T"] | None,
    v: Float[Array, "B T K V"],
) -> Float[Array, "B T N V"]:
    """Outputs of all tokens: what they see inside their chunk, in that order, and what comes in from each side."""
    precision = matmul_precision(chunks.k.dtype)
    seen = (chunks.runs[..., :, None] == chunks.runs[..., None, :]) & order[None, None, :, :]
    weights = jnp.einsum("MBKGCH,MBKDH->MBKGCD", chunks.q, chunks.k, precision=precision)
    weights = jnp.where(seen[:, :, None, None], weights, 0.0)
    mixed, total = jnp.einsum("MBKGCD,MBKDV->MBKGCV", weights, chunks.v, precision=precision), jnp.sum(weights, axis=-1)
    for side in sides:
        queries = jnp.where(side.reads[:, :, None, None, :, None], chunks.q, 0.0)
        mixed = mixed + jnp.einsum("MBKGCH,MBKHV->MBKGCV", queries, side.sums, precision=precision)
        total = total + jnp.einsum("MBKGCH,MBKH->MBKGC", queries, side.norms, precision=precision)
    out = jnp.transpose(mixed / (total[..., None] + eps), (1, 0, 4, 2, 3, 5))
    out = out.reshape(v.shape[0], -1, chunks.q.shape[2] * chunks.q.shape[3], v.shape[-1])[:, : v.shape[1]]
    return (out if segments is None else jnp.where((segments != 0)[:, :, None, None], out, 0.0)).astype(v.dtype)
