"""Positions that are added to the embedding, by config."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer import config
from jax_transformer.nn.linear import Embed
from jax_transformer.nn.params import Maker
from jax_transformer.ops.sinusoid import sinusoid, sinusoid_frequencies


class Sinusoidal(nnx.Module):
    """Fixed sines and cosines; no parameters."""

    def __init__(self, c: config.Sinusoidal, max_length: int, dim: int, make: Maker):
        self.config = c
        self.dim = dim
        self.compute_dtype = make.dtype.compute

    def __call__(self, positions: Int[Array, "#B T"]) -> Float[Array, "#B T D"]:
        """The vector of each position, of any length."""
        c = self.config
        frequencies = sinusoid_frequencies(c.base, self.dim, c.denominator)
        return sinusoid(positions + c.offset, frequencies, c.layout, self.compute_dtype)


class Learned(nnx.Module):
    """One learned vector per position."""

    def __init__(self, c: config.Learned, max_length: int, dim: int, make: Maker):
        self.table = Embed(max_length + c.offset, dim, make, ("positions", "embed"))
        self.offset = c.offset

    def __call__(self, positions: Int[Array, "#B T"]) -> Float[Array, "#B T D"]:
        """The vector of each position. The caller has checked the length; padding, at -1, counts as position 0."""
        return self.table(jnp.maximum(positions, 0) + self.offset)


ABSOLUTE_POSITION: dict[type[config.Config], Callable[..., nnx.Module]] = {
    config.Sinusoidal: Sinusoidal,
    config.Learned: Learned,
}
