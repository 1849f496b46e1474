"""Mixtures of experts."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from jax_transformer import config
from jax_transformer.nn.context import Context
from jax_transformer.nn.ffn.dense import DENSE_FFN
from jax_transformer.nn.ffn.experts import Experts
from jax_transformer.nn.ffn.router import Routed, route
from jax_transformer.nn.linear import Linear
from jax_transformer.nn.params import Maker
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.balance import Usage
from jax_transformer.ops.dropout import Noise, jitter
from jax_transformer.ops.experts.dense import dense_experts
from jax_transformer.ops.experts.grouped import chosen_tokens, grouped_experts
from jax_transformer.ops.experts.megablox import megablox_experts
from jax_transformer.ops.precision import at_least_float32

DENSE_WORK = 2**20
"""``auto`` is dense up to this many products of tokens and weights of one layer of all experts: sorting then costs more than
the matmuls that it saves, as measured on CPU."""


class Moe(nnx.Module):
    """``sum_e w_e(x) expert_e(x) + sigmoid(g(x)) shared(x)``, or with ``expert_e(w_e(x) x)`` in the sum.

    The router computes in float32 at least. Padding goes to no expert: its routed sum is 0.
    """

    def __init__(self, c: config.Moe, d_model: int, make: Maker):
        model = {"embed": d_model}
        self.router = Linear(model, {"experts": c.num_experts}, make, bias=c.router_bias)
        self.choice_bias = make.constant(0.0, (c.num_experts,), ("experts",)) if c.has_choice_bias else None
        self.experts = Experts(c.expert, c.num_experts, d_model, make)
        self.shared = None if c.shared is None else DENSE_FFN[type(c.shared)](c.shared, d_model, make)
        self.shared_gate_proj = Linear(model, {"scalar": 1}, make) if c.shared_gate else None
        self.config = c

    def __call__(
        self, x: Float[Array, "B T D"], context: Context, *, noise: Noise | None = None, tap: Tap = SILENT
    ) -> tuple[Float[Array, "B T D"], Usage]:
        """Apply to every position; ``noise`` is that of the router's logits. Also returns how the experts are used."""
        c, tokens, segments = self.config, x.reshape(-1, x.shape[-1]), context.mask.q_segments
        logits = self.router(tokens.astype(at_least_float32(x.dtype)))
        logits = jitter(logits, c.router_noise, noise)
        tap("logits", logits.reshape(*x.shape[:2], -1))
        bias = None if self.choice_bias is None else self.choice_bias[...]
        routed, usage = route(c, logits, bias, None if segments is None else segments.reshape(-1) != 0)
        if tap.values is not None:
            tap("weights", routed.dense(*logits.shape).reshape(*x.shape[:2], -1))
        y = self._mix(tokens, routed).reshape(x.shape)
        tap("routed", y)
        if self.shared is not None:
            shared, _ = self.shared(x, context, tap=tap.child("shared"))
            if self.shared_gate_proj is not None:
                shared = jax.nn.sigmoid(self.shared_gate_proj(x)) * shared
            tap("shared", shared)
            y = y + shared
        return y, usage

    def _mix(self, x: Float[Array, "n D"], routed: Routed) -> Float[Array, "n D"]:
        """The weighted sum of the experts, by the implementation that the config names."""
        parameters, activate, count = self.experts.parameters_in(x.dtype), self.experts.activate, self.config.num_experts
        kind, weigh = self.config.implementation, self.config.weigh
        if kind == "auto":
            small, full = x.shape[0] * parameters.up.size <= DENSE_WORK, routed.chosen.size >= x.shape[0] * count
            kind = "dense" if small or full else "grouped"
        if kind == "dense":
            return dense_experts(x, routed.dense(x.shape[0], count), parameters, activate, weigh=weigh)
        if routed.by_expert:
            return chosen_tokens(x, routed.chosen, routed.weights, parameters, activate, weigh=weigh)
        fast = megablox_experts if kind == "megablox" else grouped_experts
        return fast(x, routed.chosen, routed.weights, parameters, activate, weigh=weigh)
