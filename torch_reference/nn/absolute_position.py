"""Positions that are added to the embedding, by config."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.linear import Embed
from torch_reference.nn.params import Maker
from torch_reference.ops.sinusoid import sinusoid, sinusoid_frequencies


class Sinusoidal(nn.Module):
    """Fixed sines and cosines; no parameters."""

    def __init__(self, c: config.Sinusoidal, max_length: int, dim: int, make: Maker):
        super().__init__()
        self.config = c
        # A numpy array, not a buffer: it keeps its float64 when the module is cast, and its values on the meta device.
        self.frequencies = sinusoid_frequencies(c.base, dim, c.denominator)
        self.compute_dtype = getattr(torch, make.dtype.compute)

    def forward(self, positions: Int[Tensor, "#B T"]) -> Float[Tensor, "#B T D"]:
        """The vector of each position, of any length."""
        c = self.config
        return sinusoid(positions + c.offset, self.frequencies, c.layout, self.compute_dtype)


class Learned(nn.Module):
    """One learned vector per position."""

    def __init__(self, c: config.Learned, max_length: int, dim: int, make: Maker):
        super().__init__()
        self.table = Embed(max_length + c.offset, dim, make)
        self.offset = c.offset

    def forward(self, positions: Int[Tensor, "#B T"]) -> Float[Tensor, "#B T D"]:
        """The vector of each position. The caller has checked the length; padding, at -1, counts as position 0."""
        return self.table(torch.clamp(positions, min=0) + self.offset)


ABSOLUTE_POSITION: dict[type[config.Config], Callable[..., nn.Module]] = {
    config.Sinusoidal: Sinusoidal,
    config.Learned: Learned,
}
