"""Softmax attention as it is defined: materialises every score, and is what faster forms are tested against."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_reference.ops.dropout import Noise, dropout
from torch_reference.ops.precision import at_least_float32


def softmax_attention(
    q: Float[Tensor, "B T N H"],
    k: Float[Tensor, "B S K H"],
    v: Float[Tensor, "B S K H"],
    allowed: Bool[Tensor, "#B T S"],
    scale: float,
    drop: tuple[float, Noise | None] = (0.0, None),
) -> Float[Tensor, "B T N H"]:
    """``softmax(q k^T * scale + mask) v``; query head ``n`` reads key/value head ``n // (N / K)``.

    Scores and softmax are float32 at least. A query that may see no key gives zeros, neither NaN nor a mean.
    ``drop`` is the drop rate of the probabilities and its noise.
    """
    batch, length, num_heads, head_dim = q.shape
    kv_heads = k.shape[2]
    dtype = at_least_float32(q.dtype)
    grouped = q.reshape(batch, length, kv_heads, num_heads // kv_heads, head_dim)
    scores = torch.einsum("BTKGH,BSKH->BKGTS", grouped.to(dtype), k.to(dtype)) * scale
    seen = allowed[:, None, None, :, :]
    probabilities = torch.softmax(torch.where(seen, scores, torch.finfo(dtype).min), dim=-1)
    probabilities = dropout(torch.where(seen, probabilities, 0.0), *drop).to(v.dtype)
    mixed = torch.einsum("BKGTS,BSKH->BTKGH", probabilities, v)
    return mixed.reshape(batch, length, num_heads, head_dim)
