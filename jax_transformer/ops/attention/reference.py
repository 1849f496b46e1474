"""Softmax attention as it is defined: materialises every score, and is what faster forms are tested against."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_transformer.ops.dropout import Noise, dropout
from jax_transformer.ops.precision import at_least_float32, matmul_precision


def softmax_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    allowed: Bool[Array, "#B T S"],
    scale: float,
    drop: tuple[float, Noise | None] = (0.0, None),
) -> Float[Array, "B T N H"]:
    """``softmax(q k^T * scale + mask) v``; query head ``n`` reads key/value head ``n // (N / K)``.

    Scores and softmax are float32 at least. A query that may see no key gives zeros, neither NaN nor a mean.
    ``drop`` is the drop rate of the probabilities and its noise.
    """
    batch, length, num_heads, head_dim = q.shape
    kv_heads = k.shape[2]
    dtype = at_least_float32(q.dtype)
    precision = matmul_precision(q.dtype)
    grouped = q.reshape(batch, length, kv_heads, num_heads // kv_heads, head_dim)
    scores = jnp.einsum("BTKGH,BSKH->BKGTS", grouped, k, precision=precision, preferred_element_type=dtype) * scale
    seen = allowed[:, None, None, :, :]
    probabilities = jax.nn.softmax(jnp.where(seen, scores, jnp.finfo(dtype).min), axis=-1)
    probabilities = dropout(jnp.where(seen, probabilities, 0.0), *drop).astype(v.dtype)
    mixed = jnp.einsum("BKGTS,BSKH->BTKGH", probabilities, v, precision=precision)
    return mixed.reshape(batch, length, num_heads, head_dim)
