"""Normalisation modules, by config. Each normalises the last dimension."""

import math
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from jax_transformer import config
from jax_transformer.config.norm import NormWeight
from torch_reference.nn.linear import Dims
from torch_reference.nn.params import Maker
from torch_reference.ops.norm import l2_norm, layer_norm, rms_norm, scale_norm
from torch_reference.ops.precision import at_least_float32


class RMSNorm(nn.Module):
    """Root-mean-square normalisation, scaled by a weight, by 1 + weight, or not at all."""

    def __init__(self, c: config.RMSNorm, dims: Dims, make: Maker):
        super().__init__()
        self.weight = _weight(c.weight, dims, make)
        self.config = c

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Normalise the last dimension."""
        return rms_norm(x, _multiplier(self.weight, self.config.weight), self.config.eps, self.config.cast)


class LayerNorm(nn.Module):
    """Mean and variance normalisation, scaled like ``RMSNorm``, with an optional bias (initially 0)."""

    def __init__(self, c: config.LayerNorm, dims: Dims, make: Maker):
        super().__init__()
        self.weight = _weight(c.weight, dims, make)
        # Flat, as every bias is in the exchange format.
        self.bias = make.constant(0.0, (math.prod(dims.values()),)) if c.bias else None
        self.shape = tuple(dims.values())
        self.config = c

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Normalise the last dimension."""
        bias = None if self.bias is None else self.bias.reshape(self.shape)
        return layer_norm(x, _multiplier(self.weight, self.config.weight), bias, self.config.eps)


class ScaleNorm(nn.Module):
    """Division by the length, times one learned number (initially 1, or the root of the width)."""

    def __init__(self, c: config.ScaleNorm, dims: Dims, make: Maker):
        super().__init__()
        width = list(dims.values())[-1]
        self.weight = make.constant(1.0 if c.init == "one" else math.sqrt(width), (1,))
        self.config = c

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Normalise the last dimension."""
        return scale_norm(x, self.weight, self.config.eps, self.config.eps_rule)


class L2Norm(nn.Module):
    """Division by the length; no parameters."""

    def __init__(self, c: config.L2Norm, dims: Dims, make: Maker):
        super().__init__()
        self.config = c

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Normalise the last dimension."""
        return l2_norm(x, self.config.eps)


NORM: dict[type[config.Config], Callable[..., nn.Module]] = {
    config.RMSNorm: RMSNorm,
    config.LayerNorm: LayerNorm,
    config.ScaleNorm: ScaleNorm,
    config.L2Norm: L2Norm,
}


def build_norm(c: config.Norm, dims: int | Dims, make: Maker) -> nn.Module:
    """The module of a norm config, for a width or for the named last dimensions of its input.

    With ``{"heads": N, "head_dim": H}`` each head has a weight of its own; only the last dimension is normalised.
    """
    return NORM[type(c)](c, {"norm": dims} if isinstance(dims, int) else dims, make)


def _weight(rule: NormWeight, dims: Dims, make: Maker) -> nn.Parameter | None:
    if rule == "none":
        return None
    return make.constant(0.0 if rule == "one_plus" else 1.0, tuple(dims.values()))


def _multiplier(weight: nn.Parameter | None, rule: NormWeight) -> Float[Tensor, "*W D"] | None:
    """What the normalised value is multiplied by. 1 + weight is added in float32: 16 bits would round a small weight away."""
    if weight is None or rule != "one_plus":
        return weight
    return 1.0 + weight.to(at_least_float32(weight.dtype))
