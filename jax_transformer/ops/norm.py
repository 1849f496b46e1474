"""Normalisations over the last dimension, computed in float32 at least and cast back."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_transformer.ops.precision import at_least_float32


def rms_norm(
    x: Float[Array, "*B D"],
    scale: Float[Array, "*W D"] | None,
    eps: float,
    cast: Literal["before_weight", "after_weight"] = "before_weight",
) -> Float[Array, "*B D"]:
    """``x / sqrt(mean(x^2) + eps) * scale``; a scale ``[*W, D]`` has its own row for each index of the dimensions before D.

    ``cast`` says where the result is rounded to the input's type: before it is scaled (Llama) or after (Gemma, OLMo2).
    """
    wide = x.astype(at_least_float32(x.dtype))
    normed = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    if scale is None:
        return normed.astype(x.dtype)
    if cast == "after_weight":
        return (normed * _like(scale, wide)).astype(x.dtype)
    return normed.astype(x.dtype) * _like(scale, x)


def layer_norm(
    x: Float[Array, "*B D"], scale: Float[Array, "*W D"] | None, bias: Float[Array, "*W D"] | None, eps: float
) -> Float[Array, "*B D"]:
    """``(x - mean) / sqrt(var + eps) * scale + bias``; each of the last two may be left out, or have rows ``[*W, D]``.

    The variance is taken of the centred values: ``mean(x^2) - mean(x)^2`` loses every digit when the mean is large.
    """
    wide = x.astype(at_least_float32(x.dtype))
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + eps)
    scaled = normed if scale is None else normed * _like(scale, wide)
    return (scaled if bias is None else scaled + _like(bias, wide)).astype(x.dtype)


def scale_norm(
    x: Float[Array, "*B D"], weight: Float[Array, "1"], eps: float, eps_rule: Literal["add", "clamp"] = "add"
) -> Float[Array, "*B D"]:
    """``weight * x / (norm(x) + eps)``, or ``weight * x / max(norm(x), eps)`` for ``clamp``.

    At ``x = 0`` the derivative is ``weight / eps``, for both rules.
    """
    wide = x.astype(at_least_float32(x.dtype))
    squares = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
    # The root of 0 has an infinite slope, which times 0 is not a number, even in a branch that a later where discards.
    zero = squares == 0
    norm = jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squares)))
    divisor = norm + eps if eps_rule == "add" else jnp.where(norm < eps, eps, norm)
    return (wide * (_like(weight, wide) / divisor)).astype(x.dtype)


def l2_norm(x: Float[Array, "*B D"], eps: float) -> Float[Array, "*B D"]:
    """``x / sqrt(sum(x^2) + eps)``: unit length."""
    wide = x.astype(at_least_float32(x.dtype))
    return (wide * jax.lax.rsqrt(jnp.sum(jnp.square(wide), axis=-1, keepdims=True) + eps)).astype(x.dtype)


def _like(weight: Float[Array, "*W D"], x: Float[Array, "..."]) -> Float[Array, "..."]:
    return weight.astype(x.dtype).reshape((1,) * (x.ndim - weight.ndim) + weight.shape)
