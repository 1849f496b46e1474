"""How fast the state of the gated delta rule decays."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_transformer.ops.precision import at_least_float32


def decay_gate(a: Float[Array, "B T N"], a_log: Float[Array, "N"], dt_bias: Float[Array, "N"]) -> Float[Array, "B T N"]:
    """The logarithm of what is kept, ``-exp(a_log) * log(1 + exp(a + dt_bias))``, in float32 at least."""
    wide = at_least_float32(a.dtype)
    step = jnp.logaddexp(a.astype(wide) + dt_bias.astype(wide)[None, None, :], 0.0)
    return -jnp.exp(a_log.astype(wide))[None, None, :] * step
