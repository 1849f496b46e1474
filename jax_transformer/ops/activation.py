"""Element-wise nonlinearities: those without parameters by the names that the config uses, then the others."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_transformer.ops.precision import at_least_float32

XIELU_BETA = 0.5
"""Slope of xIELU at 0; its ``alpha_n`` counts from here."""

_XIELU_EPS = -1e-6


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``x sigmoid(1.702 x)``, the coarse approximation of GELU in CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


def relu2(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``max(x, 0)^2`` (https://arxiv.org/abs/2109.08668)."""
    return jnp.square(jax.nn.relu(x))


ACTIVATION: dict[str, Callable[[Float[Array, "..."]], Float[Array, "..."]]] = {
    "silu": jax.nn.silu,
    "gelu_erf": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "quick_gelu": quick_gelu,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "relu2": relu2,
    "tanh": jnp.tanh,
}
"""``silu`` x sigmoid(x); ``gelu_erf`` x Phi(x); ``gelu_tanh`` its tanh approximation; ``relu`` max(x, 0)."""


def xielu(x: Float[Array, "..."], alpha_p: Float[Array, "1"], alpha_n: Float[Array, "1"]) -> Float[Array, "..."]:
    """``a x^2 + x / 2`` for ``x > 0``, else ``b (exp(x) - 1 - x) + x / 2``, with ``a = softplus(alpha_p)`` and
    ``b = 1 / 2 + softplus(alpha_n)`` (https://arxiv.org/abs/2411.13010).

    Computed in float32 at least: ``exp(x) - 1 - x`` cancels. The exponent stops at -1e-6, as in transformers.
    """
    wide = x.astype(at_least_float32(x.dtype))
    a = jax.nn.softplus(alpha_p.astype(wide.dtype).reshape(()))
    b = XIELU_BETA + jax.nn.softplus(alpha_n.astype(wide.dtype).reshape(()))
    curve = jnp.expm1(jnp.where(wide < _XIELU_EPS, wide, _XIELU_EPS)) - wide
    y = jnp.where(wide > 0, a * jnp.square(wide), b * curve) + XIELU_BETA * wide
    return y.astype(x.dtype)


def clamped_swiglu(gate: Float[Array, "*B F"], up: Float[Array, "*B F"], limit: float, alpha: float) -> Float[Array, "*B F"]:
    """``g sigmoid(alpha g) (u + 1)`` with ``g = min(gate, limit)`` and ``u = up`` clamped to ``[-limit, limit]`` (gpt-oss)."""
    # Not jnp.clip, which halves the gradient at the limit itself: 16-bit values do land on it.
    gate = jnp.where(gate > limit, limit, gate)
    up = jnp.where(up > limit, limit, jnp.where(up < -limit, -limit, up))
    return (up + 1.0) * (gate * jax.nn.sigmoid(alpha * gate))
