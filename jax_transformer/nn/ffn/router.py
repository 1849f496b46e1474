"""From the logits of a router to the experts of every token."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_transformer import config
from jax_transformer.ops.balance import Usage, expert_counts, load_balance, router_z
from jax_transformer.ops.experts.dense import expert_choice_weights, token_choice_weights
from jax_transformer.ops.routing import Groups, Routing, admit, expert_choice, sigmoid_top_k, softmax_top_k, top_k_softmax


class Routed(NamedTuple):
    """Who goes where: the experts of every token [n, k] or, ``by_expert``, the tokens of every expert [E, C].

    An id one above the last is nobody.
    """

    chosen: Int[Array, "rows k"]
    weights: Float[Array, "rows k"]
    by_expert: bool

    def dense(self, num_tokens: int, num_experts: int) -> Float[Array, "n E"]:
        """The weight of every expert for every token, most of them 0."""
        if self.by_expert:
            return expert_choice_weights(self.chosen, self.weights, num_tokens)
        return token_choice_weights(self.chosen, self.weights, num_experts)


def route(
    c: config.Moe, logits: Float[Array, "n E"], choice_bias: Float[Array, " E"] | None, real: Bool[Array, " n"] | None
) -> tuple[Routed, Usage]:
    """Where tokens go, and how even that is. Padding, where ``real`` is false, goes nowhere and is not counted."""
    if isinstance(c.routing, config.ExpertChoice):
        choice = expert_choice(logits, c.routing.capacity_factor, real=real)
        counts = jnp.sum(choice.tokens < logits.shape[0], axis=1, dtype=jnp.int32)
        routed, probabilities = Routed(choice.tokens, choice.weights, True), choice.probabilities
    else:
        found = _RULES[type(c.routing)](c.routing, logits, choice_bias)
        counts = expert_counts(found.experts, c.num_experts, real=real)
        admitted = admit(found.experts, c.num_experts, real=real, factor=c.capacity_factor)
        routed, probabilities = Routed(admitted, found.weights, False), found.probabilities
    return routed, Usage(load_balance(counts, probabilities, real=real), router_z(logits, real=real), counts)


def _softmax(c: config.SoftmaxTopK, logits: jax.Array, bias: jax.Array | None) -> Routing:
    options = {"renormalize": c.renormalize, "floor": c.floor, "scale": c.scale}
    return softmax_top_k(logits, c.top_k, bias=bias, groups=_groups(c.groups), **options)


def _top_k(c: config.TopKSoftmax, logits: jax.Array, bias: jax.Array | None) -> Routing:
    return top_k_softmax(logits, c.top_k)


def _sigmoid(c: config.SigmoidTopK, logits: jax.Array, bias: jax.Array | None) -> Routing:
    return sigmoid_top_k(logits, c.top_k, renormalize=c.renormalize, bias=bias, groups=_groups(c.groups), scale=c.scale)


def _groups(c: config.ExpertGroups | None) -> Groups | None:
    return None if c is None else Groups(c.count, c.kept, c.top)


_RULES: dict[type[config.Config], Callable[[Any, jax.Array, jax.Array | None], Routing]] = {
    config.SoftmaxTopK: _softmax,
    config.TopKSoftmax: _top_k,
    config.SigmoidTopK: _sigmoid,
}
