"""A mixture of experts as it is defined: every expert on every token, and a weighted sum that is 0 for most of them."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_reference.ops.precision import at_least_float32

Weigh = Literal["output", "input"]
"""What the weight of an expert multiplies."""


class Experts(NamedTuple):
    """The parameters of E feed-forward networks of width F. Without a ``gate`` they are plain two-layer networks."""

    up: Float[Tensor, "E D F"]
    down: Float[Tensor, "E F D"]
    gate: Float[Tensor, "E D F"] | None = None
    up_bias: Float[Tensor, "E F"] | None = None
    down_bias: Float[Tensor, "E D"] | None = None
    gate_bias: Float[Tensor, "E F"] | None = None

    def apply(
        self, x: Float[Tensor, "*B D"], activate: Callable[..., Any], linear: Callable[..., Any]
    ) -> Float[Tensor, "*B D"]:
        """``down(activate(gate(x), up(x)))``, or ``down(activate(up(x)))``, with ``linear(x, kernel, bias)`` for each."""
        inputs = [(self.up, self.up_bias)] if self.gate is None else [(self.gate, self.gate_bias), (self.up, self.up_bias)]
        return linear(activate(*(linear(x, *parameters) for parameters in inputs)), self.down, self.down_bias)


def dense_experts(
    x: Float[Tensor, "n D"],
    weights: Float[Tensor, "n E"],
    experts: Experts,
    activate: Callable[..., Any],
    *,
    weigh: Weigh = "output",
) -> Float[Tensor, "n D"]:
    """``y_n = sum_e weights[n, e] expert_e(x_n)``; each expert in the dtype of ``x``, the sum in float32 at least.

    For ``weigh`` "input" it is the sum of ``expert_e(weights[n, e] x_n)`` over the experts whose weight is not 0. ``activate``
    is given ``gate(x), up(x)``, or ``up(x)`` where there is no gate.
    """
    wide = at_least_float32(x.dtype)
    inputs = x[None].expand(weights.shape[1], *x.shape)
    inputs, factors = (inputs, weights) if weigh == "output" else (scaled(inputs, weights.T), weights != 0)
    outputs = all_experts(inputs, experts, activate)
    mixed = torch.einsum("nE,EnD->nD", factors.to(wide), outputs.to(wide))
    return mixed.to(x.dtype)


def scaled(x: Float[Tensor, "*B D"], weights: Float[Tensor, "*B"]) -> Float[Tensor, "*B D"]:
    """Each token times its weight, in float32 at least, and cast back."""
    return (x.to(at_least_float32(x.dtype)) * weights[..., None]).to(x.dtype)


def all_experts(x: Float[Tensor, "E C D"], experts: Experts, activate: Callable[..., Any]) -> Float[Tensor, "E C D"]:
    """Every expert on C tokens of its own."""
    return experts.apply(x, activate, _linear)


def token_choice_weights(experts: Int[Tensor, "n k"], weights: Float[Tensor, "n k"], num_experts: int) -> Float[Tensor, "n E"]:
    """The weights of all experts for every token from those of its k experts; the expert ``num_experts`` is none."""
    chosen = experts[..., None] == torch.arange(num_experts, device=experts.device)
    return torch.sum(torch.where(chosen, weights[..., None], 0.0), dim=1)


def expert_choice_weights(tokens: Int[Tensor, "E C"], weights: Float[Tensor, "E C"], num_tokens: int) -> Float[Tensor, "n E"]:
    """The weights of all experts for every token from those of every expert's C tokens; the token ``num_tokens`` is none."""
    chosen = tokens[..., None] == torch.arange(num_tokens, device=tokens.device)
    return torch.sum(torch.where(chosen, weights[..., None], 0.0), dim=1).T


def _linear(
    x: Float[Tensor, "E C D"], kernel: Float[Tensor, "E D F"], bias: Float[Tensor, "E F"] | None
) -> Float[Tensor, "E C F"]:
    y = torch.einsum("ECD,EDF->ECF", x, kernel)
    return y if bias is None else y + bias[:, None, :]
