"""Mixtures of experts."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.context import Context
from torch_reference.nn.ffn.dense import DENSE_FFN
from torch_reference.nn.ffn.experts import Experts
from torch_reference.nn.ffn.router import route
from torch_reference.nn.linear import Linear
from torch_reference.nn.params import Maker
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.balance import Usage
from torch_reference.ops.dropout import Noise, jitter
from torch_reference.ops.experts.dense import dense_experts
from torch_reference.ops.precision import at_least_float32


class Moe(nn.Module):
    """``sum_e w_e(x) expert_e(x) + sigmoid(g(x)) shared(x)``, or with ``expert_e(w_e(x) x)`` in the sum.

    The router computes in float32 at least. Padding goes to no expert: its routed sum is 0. Every expert is computed for every
    token, whatever the ``implementation``.
    """

    def __init__(self, c: config.Moe, d_model: int, make: Maker):
        super().__init__()
        model = {"embed": d_model}
        self.router = Linear(model, {"experts": c.num_experts}, make, bias=c.router_bias)
        self.choice_bias = make.constant(0.0, (c.num_experts,)) if c.has_choice_bias else None
        self.experts = Experts(c.expert, c.num_experts, d_model, make)
        self.shared = None if c.shared is None else DENSE_FFN[type(c.shared)](c.shared, d_model, make)
        self.shared_gate_proj = Linear(model, {"scalar": 1}, make) if c.shared_gate else None
        self.config = c

    def forward(
        self, x: Float[Tensor, "B T D"], context: Context, *, noise: Noise | None = None, tap: Tap = SILENT
    ) -> tuple[Float[Tensor, "B T D"], Usage]:
        """Apply to every position; ``noise`` is that of the router's logits. Also returns how the experts are used."""
        c, tokens, segments = self.config, x.reshape(-1, x.shape[-1]), context.mask.q_segments
        logits = self.router(tokens.to(at_least_float32(x.dtype)))
        logits = jitter(logits, c.router_noise, noise)
        tap("logits", logits.reshape(*x.shape[:2], -1))
        routed, usage = route(c, logits, self.choice_bias, None if segments is None else segments.reshape(-1) != 0)
        weights = routed.dense(*logits.shape)
        tap("weights", weights.reshape(*x.shape[:2], -1))
        parameters = self.experts.parameters_in(x.dtype)
        y = dense_experts(tokens, weights, parameters, self.experts.activate, weigh=c.weigh).reshape(x.shape)
        tap("routed", y)
        if self.shared is not None:
            shared, _ = self.shared(x, context, tap=tap.child("shared"))
            if self.shared_gate_proj is not None:
                shared = torch.sigmoid(self.shared_gate_proj(x)) * shared
            tap("shared", shared)
            y = y + shared
        return y, usage
