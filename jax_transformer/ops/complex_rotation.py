"""Rotary position embedding of complex queries and keys: multiplication by a phase."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jax_transformer.ops.precision import at_least_float32


def complex_frequencies(base: float, head_dim: int) -> np.ndarray:
    """Angle per position of each dimension, ``base ** (-2 (i mod (head_dim / 2)) / head_dim)`` radians, in float64."""
    return base ** (-2.0 * (np.arange(head_dim) % (head_dim // 2)) / head_dim)


def rotate_complex(
    re: Float[Array, "B T N H"], im: Float[Array, "B T N H"], positions: Int[Array, "#B T"], frequencies: np.ndarray
) -> tuple[Float[Array, "B T N H"], Float[Array, "B T N H"]]:
    """Real and imaginary part of ``(re + 1j im) * exp(1j position * frequency)``. Angles are float32 at least."""
    dtype = at_least_float32(re.dtype)
    angles = positions[..., None].astype(dtype) * jnp.asarray(frequencies, dtype)[None, None, :]
    cos, sin = (f(angles)[:, :, None, :].astype(re.dtype) for f in (jnp.cos, jnp.sin))
    return re * cos - im * sin, im * cos + re * sin
