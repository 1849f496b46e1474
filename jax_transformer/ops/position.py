"""Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jax_transformer.ops.precision import at_least_float32


def rope_frequencies(base: float, rotary_dim: int) -> np.ndarray:
    """Angle per position of each pair, ``base ** (-2 i / rotary_dim)`` radians for ``i < rotary_dim / 2``, in float64."""
    return base ** (-np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim)


def apply_rope(
    x: Float[Array, "B T N H"], positions: Int[Array, "#B T"], frequencies: np.ndarray, layout: str
) -> Float[Array, "B T N H"]:
    """Rotate the first ``2 * len(frequencies)`` dimensions of each head by ``position * frequency``; pass the rest through.

    Angles are float32 at least: bfloat16 positions would collide above 256.
    """
    half = len(frequencies)
    dtype = at_least_float32(x.dtype)
    angles = positions[..., None].astype(dtype) * jnp.asarray(frequencies, dtype)[None, None, :]
    cos, sin = (f(angles)[:, :, None, :].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    rotated, rest = x[..., : 2 * half], x[..., 2 * half :]
    if layout == "half":
        a, b = rotated[..., :half], rotated[..., half:]
        rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    else:
        a, b = rotated[..., 0::2], rotated[..., 1::2]
        rotated = jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(rotated.shape)
    return jnp.concatenate([rotated, rest], axis=-1) if rest.shape[-1] else rotated
