"""Softmax attention as it is defined: materialises every score, and is what faster forms are tested against."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_reference.ops.dropout import Noise, dropout
from torch_reference.ops.precision import at_least_float32


def softmax_attention(
    q: Float[Tensor, "B T N H"],
    k: Float[Tensor, "B S K H"],
    v: Float[Tensor, "B S K V"],
    allowed: Bool[Tensor, "#B T S"],
    scale: float,
    *,
    softcap: float | None = None,
    bias: Float[Tensor, "#B N T S"] | None = None,
    sinks: Float[Tensor, " N"] | None = None,
    drop: tuple[float, Noise | None] = (0.0, None),
) -> tuple[Float[Tensor, "B T N V"], Float[Tensor, "B N T S"]]:
    """``softmax(cap(q k^T * scale) + bias + mask) v`` and the probabilities; query head ``n`` reads head ``n // (N / K)``.

    ``cap(s) = softcap * tanh(s / softcap)``. ``sinks`` are one more logit per head, of a key that every query sees and that has
    no value. Scores and softmax are float32 at least. A query that may see no key gives zeros, neither NaN nor a mean.
    ``drop`` is the drop rate of the probabilities, which are returned undropped, and its noise.
    """
    batch, length, num_heads, head_dim = q.shape
    kv_heads = k.shape[2]
    dtype = at_least_float32(q.dtype)
    grouped = q.reshape(batch, length, kv_heads, num_heads // kv_heads, head_dim)
    scores = torch.einsum("BTKGH,BSKH->BKGTS", grouped.to(dtype), k.to(dtype)) * scale
    scores = scores.reshape(batch, num_heads, length, -1)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias.to(dtype)
    probabilities = _masked_softmax(scores, allowed[:, None, :, :], sinks)
    grouped = dropout(probabilities, *drop).to(v.dtype).reshape(batch, kv_heads, -1, *scores.shape[2:])
    mixed = torch.einsum("BKGTS,BSKV->BTKGV", grouped, v)
    return mixed.reshape(batch, length, num_heads, -1), probabilities


def _masked_softmax(
    scores: Float[Tensor, "B N T S"], seen: Bool[Tensor, "#B 1 T S"], sinks: Float[Tensor, " N"] | None
) -> Float[Tensor, "B N T S"]:
    masked = torch.where(seen, scores, torch.finfo(scores.dtype).min)
    if sinks is not None:
        column = sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
        masked = torch.cat([masked, column], dim=-1)
    probabilities = torch.softmax(masked, dim=-1)[..., : scores.shape[-1]]
    return torch.where(seen, probabilities, 0.0)
