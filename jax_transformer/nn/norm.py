"""Normalisation modules, by config."""

from collections.abc import Callable

from flax import nnx
from jaxtyping import Array, Float

from jax_transformer import config
from jax_transformer.nn.params import Maker
from jax_transformer.ops.norm import layer_norm, rms_norm


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation with a learned scale, initially 1."""

    def __init__(self, c: config.RMSNorm, d_model: int, make: Maker):
        self.scale = make.constant(1.0, (d_model,), ("norm",))
        self.eps = c.eps

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Normalise the last dimension."""
        return rms_norm(x, self.scale[...], self.eps)


class LayerNorm(nnx.Module):
    """Mean and variance normalisation with a learned scale (initially 1) and an optional bias (initially 0)."""

    def __init__(self, c: config.LayerNorm, d_model: int, make: Maker):
        self.scale = make.constant(1.0, (d_model,), ("norm",))
        self.bias = make.constant(0.0, (d_model,), ("norm",)) if c.bias else None
        self.eps = c.eps

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Normalise the last dimension."""
        return layer_norm(x, self.scale[...], None if self.bias is None else self.bias[...], self.eps)


NORM: dict[type[config.Config], Callable[..., nnx.Module]] = {config.RMSNorm: RMSNorm, config.LayerNorm: LayerNorm}


def build_norm(c: config.Norm, d_model: int, make: Maker) -> nnx.Module:
    """The module of a norm config."""
    return NORM[type(c)](c, d_model, make)
