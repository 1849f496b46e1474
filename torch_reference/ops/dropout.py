"""Dropping values at random, with the randomness handed in.

The random numbers are a function of a key, as in JAX, and not the state of a generator: a recomputed layer drops the same
values again, and ``torch.compile``, which takes no generators, compiles them. Their distribution is that of the JAX package;
the numbers differ: they are hashed as in SplitMix64 (Steele et al. 2014, https://doi.org/10.1145/2660193.2660195).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """The randomness of one forward pass. A model called without it drops nothing: that is evaluation.

    ``key`` is any integer, for example ``torch.tensor(seed)``; the same key drops the same values. ``scale`` multiplies every
    drop rate, so that a schedule can anneal dropout without a new compilation.
    """

    key: Int[Tensor, ""]
    scale: Float[Tensor, ""] | float = 1.0

    def fold(self, number: int) -> "Noise":
        """Independent noise for the part of the model with this number."""
        return Noise(_spread(self.key) + number + 1, self.scale)

    def split(self, count: int) -> "tuple[Noise, ...]":
        """``count`` independent noises."""
        return tuple(self.fold(number) for number in range(count))


def dropout(x: Float[Tensor, "*B"], rate: float, noise: Noise | None) -> Float[Tensor, "*B"]:
    """Zero each value with probability ``rate * noise.scale`` and divide the others by the keep probability."""
    if noise is None or rate == 0.0:
        return x
    return _keep(x, x.shape, rate, noise)


def drop_path(x: Float[Tensor, "B *D"], rate: float | None, noise: Noise | None) -> Float[Tensor, "B *D"]:
    """Zero whole samples with probability ``rate * noise.scale`` (https://arxiv.org/abs/1603.09382); no rate, no drop."""
    if noise is None or rate is None:
        return x
    return _keep(x, (x.shape[0],) + (1,) * (x.ndim - 1), rate, noise)


def jitter(x: Float[Tensor, "*B"], std: float, noise: Noise | None) -> Float[Tensor, "*B"]:
    """``x`` plus normal values with ``std``, which ``noise.scale`` does not change."""
    if noise is None or std == 0.0:
        return x
    # Box and Muller: 1 - u is never 0.
    radius = torch.sqrt(-2.0 * torch.log(1.0 - _uniform(noise.fold(0).key, x.shape, x.device)))
    angle = 2.0 * math.pi * _uniform(noise.fold(1).key, x.shape, x.device)
    return x + std * (radius * torch.cos(angle)).to(x.dtype)


def _keep(x: Float[Tensor, "*B"], shape: tuple[int, ...], rate: float, noise: Noise) -> Float[Tensor, "*B"]:
    keep_probability = 1.0 - torch.as_tensor(rate * noise.scale, dtype=torch.float32, device=x.device)
    keep = _uniform(noise.key, shape, x.device) < keep_probability
    return torch.where(keep, x / keep_probability.to(x.dtype), torch.zeros((), dtype=x.dtype, device=x.device))


def _uniform(key: Int[Tensor, ""], shape: tuple[int, ...], device: torch.device) -> Float[Tensor, "..."]:
    """float32 values in [0, 1), all multiples of 2^-24."""
    index = torch.arange(math.prod(shape), device=device).reshape(shape)
    bits = _mix(_spread(key.to(device)) ^ index)
    return _shift(bits, 40).to(torch.float32) * 2.0**-24


def _spread(key: Int[Tensor, ""]) -> Int[Tensor, ""]:
    """Neighbouring keys, and numbers folded into them, far apart: no two count through the same values below."""
    return key.to(torch.int64) * (0x9E3779B97F4A7C15 - 2**64)


def _mix(z: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """Every bit of the result depends on every bit of ``z``. int64 is what every device multiplies; it wraps like uint64."""
    z = (z ^ _shift(z, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    z = (z ^ _shift(z, 27)) * (0x94D049BB133111EB - 2**64)
    return z ^ _shift(z, 31)


def _shift(z: Int[Tensor, "*B"], count: int) -> Int[Tensor, "*B"]:
    """Shift right and fill with zeros, where torch fills with the sign."""
    return (z >> count) & (2 ** (64 - count) - 1)
