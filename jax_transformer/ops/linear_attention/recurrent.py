"""Causal linear attention token by token: a state of constant size, which is what decoding keeps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_transformer.ops.linear_attention.reference import EPS, feature_map
from jax_transformer.ops.precision import at_least_float32, matmul_precision
from jax_transformer.ops.segments import segment_starts


def recurrent_linear_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K V"],
    *,
    segments: Int[Array, "B T"] | None = None,
    state: tuple[Float[Array, "B K H V"], Float[Array, "B K H"]] | None = None,
    eps: float = EPS,
) -> tuple[Float[Array, "B T N V"], tuple[Float[Array, "B K H V"], Float[Array, "B K H"]]]:
    """``S += phi(k_t) v_t^T; z += phi(k_t); o_t = phi(q_t)^T S / (phi(q_t)^T z + eps)``; the outputs and the last ``(S, z)``.

    ``state`` is the ``(S, z)`` that earlier tokens left, None that of no tokens; it is float32 at least. It is emptied where a
    segment starts; padding (segment 0) leaves it alone and gets zeros. Query head ``n`` reads head ``n // (N / K)``.
    """
    (batch, length, kv_heads, head_dim), num_heads = k.shape, q.shape[2]
    dtype = at_least_float32(v.dtype)
    precision = matmul_precision(dtype)
    segments = jnp.ones((batch, length), jnp.int32) if segments is None else segments
    real = (segments != 0)[:, :, None, None]
    queries = feature_map(q.astype(dtype)).reshape(batch, length, kv_heads, num_heads // kv_heads, head_dim)
    keys = jnp.where(real, feature_map(k.astype(dtype)), 0.0)
    if state is None:
        state = (jnp.zeros((*keys.shape[:1], *keys.shape[2:], v.shape[-1]), dtype), jnp.zeros_like(keys[:, 0]))

    def step(carry, token):
        (sums, norms), (query, key, value, start) = carry, token
        sums = jnp.where(start[:, None, None, None], 0.0, sums) + key[..., :, None] * value[..., None, :]
        norms = jnp.where(start[:, None, None], 0.0, norms) + key
        mixed = jnp.einsum("BKGH,BKHV->BKGV", query, sums, precision=precision)
        total = jnp.einsum("BKGH,BKH->BKG", query, norms, precision=precision)
        return (sums, norms), mixed / (total[..., None] + eps)

    tokens = (queries, keys, v.astype(dtype), segment_starts(segments))
    state = (state[0].astype(dtype), state[1].astype(dtype))
    state, mixed = jax.lax.scan(step, state, jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), tokens))
    out = jnp.moveaxis(mixed, 0, 1).reshape(batch, length, num_heads, -1)
    return jnp.where(real, out, 0.0).astype(v.dtype), state
