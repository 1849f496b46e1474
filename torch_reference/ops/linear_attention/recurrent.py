"""Causal linear attention token by token: a state of constant size, which is what decoding keeps."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_reference.ops.linear_attention.reference import EPS, feature_map
from torch_reference.ops.precision import at_least_float32
from torch_reference.ops.segments import segment_starts


def recurrent_linear_attention(
    q: Float[Tensor, "B T N H"],
    k: Float[Tensor, "B T K H"],
    v: Float[Tensor, "B T K V"],
    *,
    segments: Int[Tensor, "B T"] | None = None,
    state: tuple[Float[Tensor, "B K H V"], Float[Tensor, "B K H"]] | None = None,
    eps: float = EPS,
) -> tuple[Float[Tensor, "B T N V"], tuple[Float[Tensor, "B K H V"], Float[Tensor, "B K H"]]]:
    """``S += phi(k_t) v_t^T; z += phi(k_t); o_t = phi(q_t)^T S / (phi(q_t)^T z + eps)``; the outputs and the last ``(S, z)``.

    ``state`` is the ``(S, z)`` that earlier tokens left, None that of no tokens; it is float32 at least. It is emptied where a
    segment starts; padding (segment 0) leaves it alone and gets zeros. Query head ``n`` reads head ``n // (N / K)``.
    """
    (batch, length, kv_heads, head_dim), num_heads = k.shape, q.shape[2]
    dtype = at_least_float32(v.dtype)
    segments = torch.ones(batch, length, dtype=torch.int32, device=k.device) if segments is None else segments
    real = (segments != 0)[:, :, None, None]
    queries = feature_map(q.to(dtype)).reshape(batch, length, kv_heads, num_heads // kv_heads, head_dim)
    keys = torch.where(real, feature_map(k.to(dtype)), 0.0)
    if state is None:
        state = (keys.new_zeros((*keys.shape[:1], *keys.shape[2:], v.shape[-1])), torch.zeros_like(keys[:, 0]))
    (sums, norms), values, starts = (part.to(dtype) for part in state), v.to(dtype), segment_starts(segments)
    mixed = []
    for t in range(length):
        key = keys[:, t]
        sums = torch.where(starts[:, t, None, None, None], 0.0, sums) + key[..., :, None] * values[:, t, :, None, :]
        norms = torch.where(starts[:, t, None, None], 0.0, norms) + key
        total = torch.einsum("BKGH,BKH->BKG", queries[:, t], norms)
        mixed.append(torch.einsum("BKGH,BKHV->BKGV", queries[:, t], sums) / (total[..., None] + eps))
    out = torch.stack(mixed, dim=1).reshape(batch, length, num_heads, -1)
    return torch.where(real, out, 0.0).to(v.dtype), (sums, norms)
