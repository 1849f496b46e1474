"""A mixture of experts as it is defined: every expert on every token, and a weighted sum that is 0 for most of them."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_transformer.ops.precision import at_least_float32, matmul_precision

Weigh = Literal["output", "input"]
"""What the weight of an expert multiplies."""


class Experts(NamedTuple):
    """The parameters of E feed-forward networks of width F. Without a ``gate`` they are plain two-layer networks."""

    up: Float[Array, "E D F"]
    down: Float[Array, "E F D"]
    gate: Float[Array, "E D F"] | None = None
    up_bias: Float[Array, "E F"] | None = None
    down_bias: Float[Array, "E D"] | None = None
    gate_bias: Float[Array, "E F"] | None = None

    def apply(self, x: Float[Array, "*B D"], activate: Callable[..., Any], linear: Callable[..., Any]) -> Float[Array, "*B D"]:
        """``down(activate(gate(x), up(x)))``, or ``down(activate(up(x)))``, with ``linear(x, kernel, bias)`` for each."""
        inputs = [(self.up, self.up_bias)] if self.gate is None else [(self.gate, self.gate_bias), (self.up, self.up_bias)]
        return linear(activate(*(linear(x, *parameters) for parameters in inputs)), self.down, self.down_bias)


def dense_experts(
    x: Float[Array, "n D"],
    weights: Float[Array, "n E"],
    experts: Experts,
    activate: Callable[..., Any],
    *,
    weigh: Weigh = "output",
) -> Float[Array, "n D"]:
    """``y_n = sum_e weights[n, e] expert_e(x_n)``; each expert in the dtype of ``x``, the sum in float32 at least.

    For ``weigh`` "input" it is the sum of ``expert_e(weights[n, e] x_n)`` over the experts whose weight is not 0. ``activate``
    is given ``gate(x), up(x)``, or ``up(x)`` where there is no gate.
    """
    wide = at_least_float32(x.dtype)
    inputs = jnp.broadcast_to(x[None], (weights.shape[1], *x.shape))
    inputs, factors = (inputs, weights) if weigh == "output" else (scaled(inputs, weights.T), weights != 0)
    outputs = all_experts(inputs, experts, activate)
    mixed = jnp.einsum("nE,EnD->nD", factors.astype(wide), outputs.astype(wide), precision=matmul_precision(wide))
    return mixed.astype(x.dtype)


def scaled(x: Float[Array, "*B D"], weights: Float[Array, "*B"]) -> Float[Array, "*B D"]:
    """Each token times its weight, in float32 at least, and cast back."""
    return (x.astype(at_least_float32(x.dtype)) * weights[..., None]).astype(x.dtype)


def all_experts(x: Float[Array, "*E C D"], experts: Experts, activate: Callable[..., Any]) -> Float[Array, "*E C D"]:
    """Every expert on C tokens of its own; or one expert, whose parameters have no axis E."""
    return experts.apply(x, activate, _linear)


def token_choice_weights(experts: Int[Array, "n k"], weights: Float[Array, "n k"], num_experts: int) -> Float[Array, "n E"]:
    """The weights of all experts for every token from those of its k experts; the expert ``num_experts`` is none."""
    chosen = jax.nn.one_hot(experts, num_experts, dtype=bool)
    return jnp.sum(jnp.where(chosen, weights[..., None], 0.0), axis=1)


def expert_choice_weights(tokens: Int[Array, "E C"], weights: Float[Array, "E C"], num_tokens: int) -> Float[Array, "n E"]:
    """The weights of all experts for every token from those of every expert's C tokens; the token ``num_tokens`` is none."""
    chosen = jax.nn.one_hot(tokens, num_tokens, dtype=bool)
    return jnp.sum(jnp.where(chosen, weights[..., None], 0.0), axis=1).T


def _linear(
    x: Float[Array, "*E C D"], kernel: Float[Array, "*E D F"], bias: Float[Array, "*E F"] | None
) -> Float[Array, "*E C F"]:
    y = jnp.matmul(x, kernel, precision=matmul_precision(x.dtype))
    # Rows of an expert are many, and the gradient of its bias is their sum.
    return y if bias is None else (y + bias.astype(at_least_float32(x.dtype))[..., None, :]).astype(x.dtype)
