"""Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864)."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_reference.ops.precision import at_least_float32


def rope_frequencies(base: float, rotary_dim: int) -> np.ndarray:
    """Angle per position of each pair, ``base ** (-2 i / rotary_dim)`` radians for ``i < rotary_dim / 2``, in float64."""
    return base ** (-np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim)


def apply_rope(
    x: Float[Tensor, "B T N H"],
    positions: Int[Tensor, "#B T"],
    frequencies: np.ndarray | Float[Tensor, "#B T P"],
    layout: str,
    magnitude: float = 1.0,
) -> Float[Tensor, "B T N H"]:
    """Rotate the first dimension pairs of each head by ``position * frequency``, times ``magnitude``; pass the rest through.

    ``frequencies`` are [P] for all tokens, or of each token: the first ``2 P`` dimensions rotate. Angles are float32 at least:
    bfloat16 positions would collide above 256.
    """
    half = frequencies.shape[-1]
    dtype = at_least_float32(x.dtype)
    angles = positions[..., None].to(dtype) * torch.as_tensor(frequencies, dtype=dtype, device=x.device)
    cos, sin = ((f(angles) * magnitude)[:, :, None, :].to(x.dtype) for f in (torch.cos, torch.sin))
    rotated, rest = x[..., : 2 * half], x[..., 2 * half :]
    if layout != "interleaved":
        sin = sin if layout == "half" else -sin  # half_reversed: the other dimension of a pair comes first
        a, b = rotated[..., :half], rotated[..., half:]
        rotated = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    else:
        a, b = rotated[..., 0::2], rotated[..., 1::2]
        rotated = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).reshape(rotated.shape)
    return torch.cat([rotated, rest], dim=-1) if rest.shape[-1] else rotated
