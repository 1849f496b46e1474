"""Linear attention as it is defined (Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236): with every weight."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_transformer.ops.precision import at_least_float32, matmul_precision

EPS = 1e-8
"""Added to the sum of weights."""


def feature_map(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``elu(x) + 1``: ``x + 1`` above 0 and ``exp(x)`` below, which keeps its digits where ``exp(x) - 1 + 1`` is 0."""
    return jnp.where(x > 0, x + 1, jnp.exp(jnp.where(x > 0, 0.0, x)))


def linear_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K V"],
    allowed: Bool[Array, "#B T S"],
    eps: float = EPS,
) -> Float[Array, "B T N V"]:
    """``sum_s w_ts v_s / (sum_s w_ts + eps)`` over the allowed s, ``w_ts = phi(q_t) . phi(k_s)``, ``phi`` the feature map.

    Query head ``n`` reads head ``n // (N / K)``. Everything is float32 at least. A query that may see no key gives zeros.
    """
    batch, length, num_heads, head_dim = q.shape
    kv_heads = k.shape[2]
    dtype = at_least_float32(v.dtype)
    precision = matmul_precision(dtype)
    queries = feature_map(q.astype(dtype)).reshape(batch, length, kv_heads, num_heads // kv_heads, head_dim)
    weights = jnp.einsum("BTKGH,BSKH->BTKGS", queries, feature_map(k.astype(dtype)), precision=precision)
    weights = jnp.where(allowed[:, :, None, None, :], weights, 0.0)
    mixed = jnp.einsum("BTKGS,BSKV->BTKGV", weights, v.astype(dtype), precision=precision)
    mixed = mixed / (jnp.sum(weights, axis=-1, keepdims=True) + eps)
    return mixed.reshape(batch, length, num_heads, -1).astype(v.dtype)
