"""Sines and cosines of positions, for adding to embeddings (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_reference.ops.precision import at_least_float32


def sinusoid_frequencies(base: float, dim: int, denominator: str) -> np.ndarray:
    """Angle per position of each pair, ``base ** (-i / n)`` radians for ``i < dim / 2``, in float64.

    ``n`` is ``dim / 2`` for the denominator ``half``, and ``dim / 2 - 1`` for ``half_minus_one``, which needs ``dim`` above 2.
    """
    half = dim // 2
    return base ** (-np.arange(half, dtype=np.float64) / (half if denominator == "half" else half - 1))


def sinusoid(
    positions: Int[Tensor, "#B T"], frequencies: np.ndarray, layout: str, dtype: torch.dtype
) -> Float[Tensor, "#B T D"]:
    """Sine and cosine of ``position * frequency``: alternating (``interleaved``), or all sines first (``halves``).

    Angles are float32 at least: bfloat16 positions would collide above 256.
    """
    wide = at_least_float32(dtype)
    angles = positions[..., None].to(wide) * torch.as_tensor(frequencies, dtype=wide, device=positions.device)
    pair = (torch.sin(angles).to(dtype), torch.cos(angles).to(dtype))
    if layout == "halves":
        return torch.cat(pair, dim=-1)
    return torch.stack(pair, dim=-1).reshape(*positions.shape, -1)
