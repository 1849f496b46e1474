"""Sines and cosines of positions, for adding to embeddings (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from jax_transformer.ops.precision import at_least_float32


def sinusoid_frequencies(base: float, dim: int, denominator: str) -> np.ndarray:
    """Angle per position of each pair, ``base ** (-i / n)`` radians for ``i < dim / 2``, in float64.

    ``n`` is ``dim / 2`` for the denominator ``half``, and ``dim / 2 - 1`` for ``half_minus_one``, which needs ``dim`` above 2.
    """
    half = dim // 2
    return base ** (-np.arange(half, dtype=np.float64) / (half if denominator == "half" else half - 1))


def sinusoid(positions: Int[Array, "#B T"], frequencies: np.ndarray, layout: str, dtype: DTypeLike) -> Float[Array, "#B T D"]:
    """Sine and cosine of ``position * frequency``: alternating (``interleaved``), or all sines first (``halves``).

    Angles are float32 at least: bfloat16 positions would collide above 256.
    """
    wide = at_least_float32(dtype)
    angles = positions[..., None].astype(wide) * jnp.asarray(frequencies, wide)[None, None, :]
    pair = (jnp.sin(angles).astype(dtype), jnp.cos(angles).astype(dtype))
    if layout == "halves":
        return jnp.concatenate(pair, axis=-1)
    return jnp.stack(pair, axis=-1).reshape(*positions.shape, -1)
