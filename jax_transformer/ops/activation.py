"""Element-wise nonlinearities, by the names that the config uses."""

from collections.abc import Callable
from functools import partial

import jax
from jaxtyping import Array, Float

ACTIVATION: dict[str, Callable[[Float[Array, "..."]], Float[Array, "..."]]] = {
    "silu": jax.nn.silu,
    "gelu_erf": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
}
"""``silu`` x sigmoid(x); ``gelu_erf`` x Phi(x); ``gelu_tanh`` its tanh approximation; ``sigmoid``; ``relu`` max(x, 0)."""
