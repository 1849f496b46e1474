"""Mixtures of experts: how tokens and experts find each other, and what an expert is."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.base import Config, Positive
from jax_transformer.config.ffn import ClampedGlu, DenseFfn, Glu, Mlp

_Weight = Annotated[float, Field(ge=0.0)]
_Factor = Annotated[float, Field(gt=0.0)]


class ExpertGroups(Config):
    """Experts in ``count`` groups of neighbouring ids, of which each token may use the best ``kept`` (DeepSeek)."""

    count: Positive
    kept: Positive
    top: Positive = 2
    """A group's score is the sum of its ``top`` best experts': 2 in DeepSeek-V3, 1 in DeepSeek-V2."""

    @model_validator(mode="after")
    def _check_kept(self) -> Self:
        if self.kept > self.count:
            raise ValueError(f"kept={self.kept} groups of count={self.count}: keep at most as many as there are")
        return self


class SoftmaxTopK(Config):
    """``p = softmax(logits)``; each token goes to its ``top_k`` experts of highest p, with the weights ``scale * p``."""

    kind: Literal["softmax_top_k"] = "softmax_top_k"
    top_k: Positive
    renormalize: bool = True
    """Divide the weights by their sum (Mixtral, Qwen3), or leave them as they are (OLMoE, DeepSeek-V2)."""
    floor: _Weight = 0.0
    """The sum by which weights are divided is at least this (ERNIE 4.5)."""
    choice_bias: bool = False
    """A number per expert that is added to choose and not to weigh; training moves it towards an even load."""
    groups: ExpertGroups | None = None
    scale: _Factor = 1.0

    @model_validator(mode="after")
    def _check_floor(self) -> Self:
        if self.floor and not self.renormalize:
            raise ValueError(
                f"floor={self.floor} bounds the sum that weights are divided by, but renormalize is false: leave floor out"
            )
        return self


class TopKSoftmax(Config):
    """The ``top_k`` highest logits, and the softmax over these alone (gpt-oss, Granite): the same as a renormalised
    ``softmax_top_k``."""

    kind: Literal["top_k_softmax"] = "top_k_softmax"
    top_k: Positive


class SigmoidTopK(Config):
    """``s = sigmoid(logits)``; the ``top_k`` highest ``s``, with the weights ``scale * s`` (DeepSeek-V3, GLM-4.5)."""

    kind: Literal["sigmoid_top_k"] = "sigmoid_top_k"
    top_k: Positive
    renormalize: bool = True
    """Divide the weights by their sum."""
    choice_bias: bool = False
    """A number per expert that is added to choose and not to weigh; training moves it towards an even load."""
    groups: ExpertGroups | None = None
    scale: _Factor = 1.0


class ExpertChoice(Config):
    """Each expert takes the ``capacity_factor * tokens / num_experts`` tokens that have most of their softmax for it (Zhou et
    al. 2022, https://arxiv.org/abs/2202.09368)."""

    kind: Literal["expert_choice"] = "expert_choice"
    capacity_factor: _Factor
    """Experts per token, on average."""
    acausal: bool = False
    """Says, in a causal model, that the leak is known: whether an expert takes a token depends on later tokens, so the training
    loss is too low and decoding with a cache computes something else."""


Routing = Annotated[SoftmaxTopK | TopKSoftmax | SigmoidTopK | ExpertChoice, Field(discriminator="kind")]

Implementation = Literal["auto", "dense", "grouped", "megablox"]
"""How the experts are computed, the same numbers each way: ``dense`` every expert on every token; ``grouped`` tokens sorted by
expert; ``megablox`` JAX's kernel for TPUs; ``auto`` the first for little work and the second otherwise."""


class Moe(Config):
    """``sum_e w_e(x) expert_e(x) + sigmoid(g(x)) shared(x)``, where a router leaves most of the weights 0."""

    kind: Literal["moe"] = "moe"
    num_experts: Positive
    routing: Routing
    expert: DenseFfn
    """What each of the experts is."""
    shared: DenseFfn | None = None
    """A network for every token, beside the routed ones."""
    shared_gate: bool = False
    """Multiply the shared network's output by ``sigmoid(w x)`` (Qwen2-MoE)."""
    weigh: Literal["output", "input"] = "output"
    """What the weight of an expert multiplies: ``w_e(x) expert_e(x)``, or ``expert_e(w_e(x) x)`` (Llama 4). Either way an
    expert of weight 0 adds nothing."""
    capacity_factor: _Factor | None = None
    """An expert takes at most ``capacity_factor * top_k * tokens / num_experts`` tokens of a batch, the earliest; others lose
    it. None: all."""
    router_bias: bool = False
    router_noise: _Weight = 0.0
    """Standard deviation of normal noise on the logits, in training only."""
    load_balance_weight: _Weight = 0.01
    """Of ``E sum_e f_e P_e`` in the loss: 1 for an even load (https://arxiv.org/abs/2101.03961)."""
    router_z_weight: _Weight = 0.001
    """Of ``mean(logsumexp(logits)^2)`` in the loss (https://arxiv.org/abs/2202.08906)."""
    implementation: Implementation = "auto"

    @property
    def routes_by_batch(self) -> bool:
        """Whether the output for a token depends on the other tokens of the batch, in its own row or not."""
        return self.capacity_factor is not None or isinstance(self.routing, ExpertChoice)

    @property
    def has_choice_bias(self) -> bool:
        """Whether there is a bias that only chooses."""
        return isinstance(self.routing, SoftmaxTopK | SigmoidTopK) and self.routing.choice_bias

    @model_validator(mode="after")
    def _check_choices(self) -> Self:
        if isinstance(self.routing, ExpertChoice):
            if self.capacity_factor is not None:
                raise ValueError(
                    f"capacity_factor={self.capacity_factor}: with expert_choice no expert overflows; leave it out and set "
                    "routing.capacity_factor"
                )
            return self
        groups = None if isinstance(self.routing, TopKSoftmax) else self.routing.groups
        available = self.num_experts if groups is None else _check_groups(groups, self.num_experts)
        if self.routing.top_k > available:
            kept = "" if groups is None else f" in the {groups.kept} groups that are kept"
            raise ValueError(
                f"routing.top_k={self.routing.top_k} experts per token of {available}{kept}: lower top_k or raise num_experts"
            )
        return self

    @model_validator(mode="after")
    def _check_networks(self) -> Self:
        if self.shared_gate and self.shared is None:
            raise ValueError(
                "shared_gate multiplies the output of a shared network, but shared is null: set it, or drop the gate"
            )
        if isinstance(self.expert, Mlp | Glu) and self.expert.activation == "xielu":
            raise ValueError(
                "expert.activation=xielu has learned numbers, which experts have no place for: use another activation (shared "
                "may have it)"
            )
        return self


def _check_groups(groups: ExpertGroups, num_experts: int) -> int:
    """How many experts a token can choose from."""
    size, rest = divmod(num_experts, groups.count)
    if rest:
        raise ValueError(
            f"num_experts={num_experts} are not routing.groups.count={groups.count} groups of one size: choose a divisor"
        )
    if groups.top > size:
        raise ValueError(f"routing.groups.top={groups.top} best experts of a group of {size}: lower top, or have fewer groups")
    return groups.kept * size


Ffn = Annotated[Mlp | Glu | ClampedGlu | Moe, Field(discriminator="kind")]
