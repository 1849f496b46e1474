"""Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jax_transformer.ops.precision import at_least_float32


def rope_frequencies(base: float, rotary_dim: int) -> np.ndarray:
    """Angle per position of each pair, ``base ** (-2 i / rotary_dim)`` radians for ``i < rotary_dim / 2``, in float64."""
    return base ** (-np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim)


def apply_rope(
    x: Float[Array, "B T N H"],
    positions: Int[Array, "#B T"],
    frequencies: np.ndarray | Float[Array, "#B T P"],
    layout: str,
    magnitude: float = 1.0,
) -> Float[Array, "B T N H"]:
    """Rotate the first dimension pairs of each head by ``position * frequency``, times ``magnitude``; pass the rest through.

    ``frequencies`` are [P] for all tokens, or of each token: the first ``2 P`` dimensions rotate. Angles are float32 at least:
    bfloat16 positions would collide above 256.
    """
    half = frequencies.shape[-1]
    dtype = at_least_float32(x.dtype)
    each = jnp.asarray(frequencies, dtype)
    angles = positions[..., None].astype(dtype) * (each[None, None, :] if each.ndim == 1 else each)
    cos, sin = ((f(angles) * magnitude)[:, :, None, :].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    rotated, rest = x[..., : 2 * half], x[..., 2 * half :]
    if layout != "interleaved":
        sin = sin if layout == "half" else -sin  # half_reversed: the other dimension of a pair comes first
        a, b = rotated[..., :half], rotated[..., half:]
        rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    else:
        a, b = rotated[..., 0::2], rotated[..., 1::2]
        rotated = jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(rotated.shape)
    return jnp.concatenate([rotated, rest], axis=-1) if rest.shape[-1] else rotated
