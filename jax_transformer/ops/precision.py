"""Where precision is raised: reductions never run below float32, and float32 means float32 on every device."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """float32 for the 16-bit types, the type itself for float32 and float64: nothing is ever cast down."""
    return jnp.promote_types(dtype, jnp.float32)


def matmul_precision(dtype: DTypeLike) -> jax.lax.Precision:
    """Full precision for float32 and float64 inputs, where accelerators would otherwise use fewer mantissa bits."""
    return jax.lax.Precision.DEFAULT if jnp.dtype(dtype).itemsize < 4 else jax.lax.Precision.HIGHEST
