"""Softmax attention as it is defined: materialises every score, and is what faster forms are tested against."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_transformer.ops.dropout import Noise, dropout
from jax_transformer.ops.precision import at_least_float32, matmul_precision


def softmax_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K V"],
    allowed: Bool[Array, "#B T S"],
    scale: float,
    *,
    softcap: float | None = None,
    bias: Float[Array, "#B N T S"] | None = None,
    sinks: Float[Array, " N"] | None = None,
    drop: tuple[float, Noise | None] = (0.0, None),
) -> tuple[Float[Array, "B T N V"], Float[Array, "B N T S"]]:
    """``softmax(cap(q k^T * scale) + bias + mask) v`` and the probabilities; query head ``n`` reads head ``n // (N / K)``.

    ``cap(s) = softcap * tanh(s / softcap)``. ``sinks`` are one more logit per head, of a key that every query sees and that has
    no value. Scores and softmax are float32 at least. A query that may see no key gives zeros, neither NaN nor a mean.
    ``drop`` is the drop rate of the probabilities, which are returned undropped, and its noise.
    """
    batch, length, num_heads, head_dim = q.shape
    kv_heads = k.shape[2]
    dtype = at_least_float32(q.dtype)
    precision = matmul_precision(q.dtype)
    grouped = q.reshape(batch, length, kv_heads, num_heads // kv_heads, head_dim)
    scores = jnp.einsum("BTKGH,BSKH->BKGTS", grouped, k, precision=precision, preferred_element_type=dtype) * scale
    scores = scores.reshape(batch, num_heads, length, -1)
    if softcap is not None:
        scores = softcap * jnp.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias.astype(dtype)
    probabilities = _masked_softmax(scores, allowed[:, None, :, :], sinks)
    grouped = dropout(probabilities, *drop).astype(v.dtype).reshape(batch, kv_heads, -1, *scores.shape[2:])
    mixed = jnp.einsum("BKGTS,BSKV->BTKGV", grouped, v, precision=precision)
    return mixed.reshape(batch, length, num_heads, -1), probabilities


def _masked_softmax(
    scores: Float[Array, "B N T S"], seen: Bool[Array, "#B 1 T S"], sinks: Float[Array, " N"] | None
) -> Float[Array, "B N T S"]:
    masked = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
    if sinks is not None:
        column = jnp.broadcast_to(sinks.astype(scores.dtype)[None, :, None, None], (*scores.shape[:3], 1))
        masked = jnp.concatenate([masked, column], axis=-1)
    probabilities = jax.nn.softmax(masked, axis=-1)[..., : scores.shape[-1]]
    return jnp.where(seen, probabilities, 0.0)
