"""Linear attention in time and memory O(T): inside a chunk by its definition, between chunks by sums that are carried."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torch_reference.ops.linear_attention.reference import EPS, feature_map
from torch_reference.ops.precision import at_least_float32
from torch_reference.ops.segments import segment_runs


class _Chunks(NamedTuple):
    """A sequence cut into M chunks of C tokens, keys and queries after the feature map; keys of padding are 0."""

    q: Float[Tensor, "M B K G C H"]
    k: Float[Tensor, "M B K C H"]
    v: Float[Tensor, "M B K C V"]
    runs: Int[Tensor, "M B C"]


class _Carried(NamedTuple):
    """What comes into each chunk from one side, and which of its tokens belong to the segment that it is of."""

    sums: Float[Tensor, "M B K H V"]
    norms: Float[Tensor, "M B K H"]
    reads: Bool[Tensor, "M B C"]


def chunked_linear_attention(
    q: Float[Tensor, "B T N H"],
    k: Float[Tensor, "B T K H"],
    v: Float[Tensor, "B T K V"],
    *,
    segments: Int[Tensor, "B T"] | None = None,
    state: tuple[Float[Tensor, "B K H V"], Float[Tensor, "B K H"]] | None = None,
    eps: float = EPS,
    chunk: int = 64,
) -> tuple[Float[Tensor, "B T N V"], tuple[Float[Tensor, "B K H V"], Float[Tensor, "B K H"]]]:
    """What ``recurrent_linear_attention`` computes, as matmuls over chunks of ``chunk`` tokens."""
    chunks = _cut(q, k, v, segments, chunk)
    if state is None:
        state = _empty(chunks)
    ends = chunks.runs[..., -1]
    # What comes into the first chunk is of run 0, which is the one that continues the caller's state.
    entries = torch.cat([torch.zeros_like(ends[:1]), ends[:-1]])
    carried, state = _carry(chunks, ends, entries, (state[0].to(chunks.k.dtype), state[1].to(chunks.k.dtype)))
    size = chunks.k.shape[-2]
    order = torch.ones(size, size, dtype=torch.bool, device=k.device)
    return _mix(chunks, torch.tril(order), [carried], eps, segments, v), state


def chunked_bidirectional_linear_attention(
    q: Float[Tensor, "B T N H"],
    k: Float[Tensor, "B T K H"],
    v: Float[Tensor, "B T K V"],
    *,
    segments: Int[Tensor, "B T"] | None = None,
    eps: float = EPS,
    chunk: int = 64,
) -> Float[Tensor, "B T N V"]:
    """``linear_attention`` of every token over the whole of its segment; padding (segment 0) is not seen and gets zeros."""
    chunks = _cut(q, k, v, segments, chunk)
    firsts, lasts = chunks.runs[..., 0], chunks.runs[..., -1]
    nothing = torch.full_like(firsts[:1], -1)
    before, _ = _carry(chunks, lasts, torch.cat([nothing, lasts[:-1]]), _empty(chunks))
    after, _ = _carry(chunks, firsts, torch.cat([firsts[1:], nothing]), _empty(chunks), reverse=True)
    size = chunks.k.shape[-2]
    order = torch.ones(size, size, dtype=torch.bool, device=k.device)
    return _mix(chunks, order, [before, after], eps, segments, v)


def _cut(
    q: Float[Tensor, "B T N H"],
    k: Float[Tensor, "B T K H"],
    v: Float[Tensor, "B T K V"],
    segments: Int[Tensor, "B T"] | None,
    chunk: int,
) -> _Chunks:
    (batch, length, kv_heads, head_dim), dtype = k.shape, at_least_float32(v.dtype)
    size = min(chunk, length)
    segments = torch.ones(batch, length, dtype=torch.int32, device=k.device) if segments is None else segments

    def cut(x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x, (*(0 for _ in 2 * x.shape[2:]), 0, -length % size))
        return torch.movedim(padded.reshape(batch, -1, size, *x.shape[2:]), 1, 0)

    queries = feature_map(q.to(dtype)).reshape(batch, length, kv_heads, -1, head_dim)
    keys = torch.where((segments != 0)[:, :, None, None], feature_map(k.to(dtype)), 0.0)
    runs = segment_runs(torch.nn.functional.pad(segments, (0, -length % size)))
    return _Chunks(
        torch.movedim(cut(queries), 2, 4),
        torch.movedim(cut(keys), 2, 3),
        torch.movedim(cut(v.to(dtype)), 2, 3),
        torch.movedim(runs.reshape(batch, -1, size), 1, 0),
    )


def _empty(chunks: _Chunks) -> tuple[Float[Tensor, "B K H V"], Float[Tensor, "B K H"]]:
    norms = torch.zeros_like(chunks.k[0, :, :, 0])
    return norms.new_zeros((*norms.shape, chunks.v.shape[-1])), norms


def _carry(
    chunks: _Chunks,
    edges: Int[Tensor, "M B"],
    entries: Int[Tensor, "M B"],
    state: tuple[Float[Tensor, "B K H V"], Float[Tensor, "B K H"]],
    reverse: bool = False,
) -> tuple[_Carried, tuple[Float[Tensor, "B K H V"], Float[Tensor, "B K H"]]]:
    """Sums that come into each chunk and those that leave the last: of the run at its leaving edge and at its entry."""
    leaving = (chunks.runs == edges[..., None])[:, :, None, :, None]
    keys = torch.where(leaving, chunks.k, 0.0)
    sums = torch.einsum("MBKCH,MBKCV->MBKHV", keys, chunks.v)
    norms, keep, before = torch.sum(keys, dim=-2), edges == entries, []
    for m in reversed(range(len(sums))) if reverse else range(len(sums)):
        before.append(state)
        old = [torch.where(keep[m].reshape(-1, *(1,) * (x.ndim - 1)), x, 0.0) for x in state]
        state = (old[0] + sums[m], old[1] + norms[m])
    parts = [torch.stack(list(part)) for part in zip(*(reversed(before) if reverse else before), strict=True)]
    return _Carried(parts[0], parts[1], chunks.runs == entries[..., None]), state


def _mix(
    chunks: _Chunks,
    order: Bool[Tensor, "C C"],
    sides: list[_Carried],
    eps: float,
    segments: Int[Tensor, "B T"] | None,
    v: Float[Tensor, "B T K V"],
) -> Float[Tensor, "B T N V"]:
    """Outputs of all tokens: what they see inside their chunk, in that order, and what comes in from each side."""
    seen = (chunks.runs[..., :, None] == chunks.runs[..., None, :]) & order[None, None, :, :]
    weights = torch.einsum("MBKGCH,MBKDH->MBKGCD", chunks.q, chunks.k)
    weights = torch.where(seen[:, :, None, None], weights, 0.0)
    mixed, total = torch.einsum("MBKGCD,MBKDV->MBKGCV", weights, chunks.v), torch.sum(weights, dim=-1)
    for side in sides:
        queries = torch.where(side.reads[:, :, None, None, :, None], chunks.q, 0.0)
        mixed = mixed + torch.einsum("MBKGCH,MBKHV->MBKGCV", queries, side.sums)
        total = total + torch.einsum("MBKGCH,MBKH->MBKGC", queries, side.norms)
    out = torch.permute(mixed / (total[..., None] + eps), (1, 0, 4, 2, 3, 5))
    out = out.reshape(v.shape[0], -1, chunks.q.shape[2] * chunks.q.shape[3], v.shape[-1])[:, : v.shape[1]]
    return (out if segments is None else torch.where((segments != 0)[:, :, None, None], out, 0.0)).to(v.dtype)
