"""Normalisations over the last dimension, computed in float32 at least and cast back."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_transformer.ops.precision import at_least_float32


def rms_norm(x: Float[Array, "*B D"], scale: Float[Array, " D"], eps: float) -> Float[Array, "*B D"]:
    """``x / sqrt(mean(x^2) + eps)``, cast to the input's type, then times ``scale`` (the order of Llama)."""
    wide = x.astype(at_least_float32(x.dtype))
    normed = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    return normed.astype(x.dtype) * _like(scale, x)


def layer_norm(
    x: Float[Array, "*B D"], scale: Float[Array, " D"], bias: Float[Array, " D"] | None, eps: float
) -> Float[Array, "*B D"]:
    """``(x - mean) / sqrt(var + eps) * scale + bias``.

    The variance is taken of the centred values: ``mean(x^2) - mean(x)^2`` loses every digit when the mean is large.
    """
    wide = x.astype(at_least_float32(x.dtype))
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + eps)
    scaled = normed * _like(scale, wide)
    return (scaled if bias is None else scaled + _like(bias, wide)).astype(x.dtype)


def _like(vector: Float[Array, " D"], x: Float[Array, "*B D"]) -> Float[Array, "*#B D"]:
    return vector.astype(x.dtype).reshape((1,) * (x.ndim - 1) + vector.shape)
