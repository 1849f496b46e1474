"""Rotary position embedding of complex queries and keys: multiplication by a phase."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_reference.ops.precision import at_least_float32


def complex_frequencies(base: float, head_dim: int) -> np.ndarray:
    """Angle per position of each dimension, ``base ** (-2 (i mod (head_dim / 2)) / head_dim)`` radians, in float64."""
    return base ** (-2.0 * (np.arange(head_dim) % (head_dim // 2)) / head_dim)


def rotate_complex(
    re: Float[Tensor, "B T N H"], im: Float[Tensor, "B T N H"], positions: Int[Tensor, "#B T"], frequencies: np.ndarray
) -> tuple[Float[Tensor, "B T N H"], Float[Tensor, "B T N H"]]:
    """Real and imaginary part of ``(re + 1j im) * exp(1j position * frequency)``. Angles are float32 at least."""
    dtype = at_least_float32(re.dtype)
    angles = positions[..., None].to(dtype) * torch.as_tensor(frequencies, dtype=dtype, device=re.device)
    cos, sin = (f(angles)[:, :, None, :].to(re.dtype) for f in (torch.cos, torch.sin))
    return re * cos - im * sin, im * cos + re * sin
