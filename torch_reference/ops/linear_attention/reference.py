"""Linear attention as it is defined (Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236): with every weight."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_reference.ops.precision import at_least_float32

EPS = 1e-8
"""Added to the sum of weights."""


def feature_map(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``elu(x) + 1``: ``x + 1`` above 0 and ``exp(x)`` below, which keeps its digits where ``exp(x) - 1 + 1`` is 0."""
    return torch.where(x > 0, x + 1, torch.exp(torch.where(x > 0, 0.0, x)))


def linear_attention(
    q: Float[Tensor, "B T N H"],
    k: Float[Tensor, "B S K H"],
    v: Float[Tensor, "B S K V"],
    allowed: Bool[Tensor, "#B T S"],
    eps: float = EPS,
) -> Float[Tensor, "B T N V"]:
    """``sum_s w_ts v_s / (sum_s w_ts + eps)`` over the allowed s, ``w_ts = phi(q_t) . phi(k_s)``, ``phi`` the feature map.

    Query head ``n`` reads head ``n // (N / K)``. Everything is float32 at least. A query that may see no key gives zeros.
    """
    batch, length, num_heads, head_dim = q.shape
    kv_heads = k.shape[2]
    dtype = at_least_float32(v.dtype)
    queries = feature_map(q.to(dtype)).reshape(batch, length, kv_heads, num_heads // kv_heads, head_dim)
    weights = torch.einsum("BTKGH,BSKH->BTKGS", queries, feature_map(k.to(dtype)))
    weights = torch.where(allowed[:, :, None, None, :], weights, 0.0)
    mixed = torch.einsum("BTKGS,BSKV->BTKGV", weights, v.to(dtype))
    mixed = mixed / (torch.sum(weights, dim=-1, keepdim=True) + eps)
    return mixed.reshape(batch, length, num_heads, -1).to(v.dtype)
