"""Normalisation modules, by config."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.params import Maker
from torch_reference.ops.norm import layer_norm, rms_norm


class RMSNorm(nn.Module):
    """Root-mean-square normalisation with a learned scale, initially 1."""

    def __init__(self, c: config.RMSNorm, d_model: int, make: Maker):
        super().__init__()
        self.weight = make.constant(1.0, (d_model,))
        self.eps = c.eps

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Normalise the last dimension."""
        return rms_norm(x, self.weight, self.eps)


class LayerNorm(nn.Module):
    """Mean and variance normalisation with a learned scale (initially 1) and an optional bias (initially 0)."""

    def __init__(self, c: config.LayerNorm, d_model: int, make: Maker):
        super().__init__()
        self.weight = make.constant(1.0, (d_model,))
        self.bias = make.constant(0.0, (d_model,)) if c.bias else None
        self.eps = c.eps

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Normalise the last dimension."""
        return layer_norm(x, self.weight, self.bias, self.eps)


NORM: dict[type[config.Config], Callable[..., nn.Module]] = {config.RMSNorm: RMSNorm, config.LayerNorm: LayerNorm}


def build_norm(c: config.Norm, d_model: int, make: Maker) -> nn.Module:
    """The module of a norm config."""
    return NORM[type(c)](c, d_model, make)
