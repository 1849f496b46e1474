"""Normalisation modules, by config. Each normalises the last dimension."""

import math
from collections.abc import Callable

from flax import nnx
from jaxtyping import Array, Float

from jax_transformer import config
from jax_transformer.config.norm import NormWeight
from jax_transformer.nn.linear import Dims
from jax_transformer.nn.params import Maker
from jax_transformer.ops.norm import l2_norm, layer_norm, rms_norm, scale_norm
from jax_transformer.ops.precision import at_least_float32


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation, scaled by a weight, by 1 + weight, or not at all."""

    def __init__(self, c: config.RMSNorm, dims: Dims, make: Maker):
        self.scale = _weight(c.weight, dims, make)
        self.config = c

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Normalise the last dimension."""
        return rms_norm(x, _multiplier(self.scale, self.config.weight), self.config.eps, self.config.cast)


class LayerNorm(nnx.Module):
    """Mean and variance normalisation, scaled like ``RMSNorm``, with an optional bias (initially 0)."""

    def __init__(self, c: config.LayerNorm, dims: Dims, make: Maker):
        self.scale = _weight(c.weight, dims, make)
        # Flat, as every bias is in the exchange format.
        self.bias = make.constant(0.0, (math.prod(dims.values()),), ("norm",)) if c.bias else None
        self.shape = tuple(dims.values())
        self.config = c

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Normalise the last dimension."""
        bias = None if self.bias is None else self.bias[...].reshape(self.shape)
        return layer_norm(x, _multiplier(self.scale, self.config.weight), bias, self.config.eps)


class ScaleNorm(nnx.Module):
    """Division by the length, times one learned number (initially 1, or the root of the width)."""

    def __init__(self, c: config.ScaleNorm, dims: Dims, make: Maker):
        width = list(dims.values())[-1]
        self.scale = make.constant(1.0 if c.init == "one" else math.sqrt(width), (1,), ("scalar",))
        self.config = c

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Normalise the last dimension."""
        return scale_norm(x, self.scale[...], self.config.eps, self.config.eps_rule)


class L2Norm(nnx.Module):
    """Division by the length; no parameters."""

    def __init__(self, c: config.L2Norm, dims: Dims, make: Maker):
        self.config = c

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Normalise the last dimension."""
        return l2_norm(x, self.config.eps)


NORM: dict[type[config.Config], Callable[..., nnx.Module]] = {
    config.RMSNorm: RMSNorm,
    config.LayerNorm: LayerNorm,
    config.ScaleNorm: ScaleNorm,
    config.L2Norm: L2Norm,
}


def build_norm(c: config.Norm, dims: int | Dims, make: Maker) -> nnx.Module:
    """The module of a norm config, for a width or for the named last dimensions of its input.

    With ``{"heads": N, "head_dim": H}`` each head has a weight of its own; only the last dimension is normalised.
    """
    return NORM[type(c)](c, {"norm": dims} if isinstance(dims, int) else dims, make)


def _weight(rule: NormWeight, dims: Dims, make: Maker) -> nnx.Param | None:
    if rule == "none":
        return None
    return make.constant(0.0 if rule == "one_plus" else 1.0, tuple(dims.values()), tuple(dims))


def _multiplier(weight: nnx.Param | None, rule: NormWeight) -> Float[Array, "*W D"] | None:
    """What the normalised value is multiplied by. 1 + weight is added in float32: 16 bits would round a small weight away."""
    if weight is None or rule != "one_plus":
        return None if weight is None else weight[...]
    return 1.0 + weight[...].astype(at_least_float32(weight[...].dtype))
