"""Routers of mixtures of experts: which experts every token goes to and with what weights, or which tokens an expert takes.

Everything is float32 at least. Of equal scores the one of the lower id wins, whether of experts, groups or tokens. Noise on the
logits is the caller's.
"""

from fractions import Fraction
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torch_reference.ops.precision import at_least_float32

RENORMALIZE_EPS = 1e-20
"""Added to the sum of sigmoid scores, which may all be 0."""


class Routing(NamedTuple):
    """The experts of every token, best first, and their weights; ``probabilities``, by which balance is judged, sum to 1."""

    experts: Int[Tensor, "*B k"]
    weights: Float[Tensor, "*B k"]
    probabilities: Float[Tensor, "*B E"]


class Groups(NamedTuple):
    """Experts in ``count`` groups of neighbouring ids, of which each token may use the best ``kept``.

    A group's score is the sum of its ``top`` best: 2 in DeepSeek-V3 and 1, the best alone, in DeepSeek-V2.
    """

    count: int
    kept: int
    top: int = 2


class ExpertChoice(NamedTuple):
    """The tokens of every expert, best first; in a place that stays empty it is ``n``, which is none, of weight 0."""

    tokens: Int[Tensor, "E C"]
    weights: Float[Tensor, "E C"]
    probabilities: Float[Tensor, "n E"]


def softmax_top_k(
    logits: Float[Tensor, "*B E"],
    k: int,
    *,
    renormalize: bool = False,
    floor: float = 0.0,
    bias: Float[Tensor, " E"] | None = None,
    groups: Groups | None = None,
    scale: float = 1.0,
) -> Routing:
    """The k highest of ``p = softmax(logits)``; their weights ``scale * p``, renormalised ``scale * p / max(sum(p), floor)``.

    Mixtral and Qwen3 renormalise, OLMoE and DeepSeek-V2 (with ``groups`` of ``top=1``) do not, ERNIE 4.5 has a ``bias``, which
    is added to choose and not to weigh, and a ``floor``.

    Raises:
        ValueError: There are fewer than k experts to choose from, or groups of unequal size.
    """
    probabilities = torch.softmax(logits.to(at_least_float32(logits.dtype)), dim=-1)
    experts = _choose(probabilities, k, bias, groups)
    weights = torch.gather(probabilities, -1, experts)
    if renormalize:
        weights = weights / torch.clamp(torch.sum(weights, dim=-1, keepdim=True), min=floor)
    return Routing(experts, weights * scale, probabilities)


def top_k_softmax(logits: Float[Tensor, "*B E"], k: int) -> Routing:
    """The k highest logits, and the softmax over these alone (gpt-oss, Granite); ``probabilities`` are over all.

    The same function as a renormalised ``softmax_top_k``.

    Raises:
        ValueError: There are fewer than k experts.
    """
    logits = logits.to(at_least_float32(logits.dtype))
    experts = _choose(logits, k, None, None)
    weights = torch.softmax(torch.gather(logits, -1, experts), dim=-1)
    return Routing(experts, weights, torch.softmax(logits, dim=-1))


def sigmoid_top_k(
    logits: Float[Tensor, "*B E"],
    k: int,
    *,
    renormalize: bool = True,
    bias: Float[Tensor, " E"] | None = None,
    groups: Groups | None = None,
    scale: float = 1.0,
) -> Routing:
    """The k highest of ``s + bias``, ``s = sigmoid(logits)``; their weights ``scale * s``, renormalised by ``sum(s) + 1e-20``.

    DeepSeek-V3 (https://arxiv.org/abs/2412.19437), GLM-4.5 and dots.llm1, without groups MiniMax-M2, without groups and bias
    Llama 4. The bias only chooses. ``probabilities`` are ``s / sum(s)`` over all experts.

    Raises:
        ValueError: There are fewer than k experts to choose from, or groups of unequal size.
    """
    scores = torch.sigmoid(logits.to(at_least_float32(logits.dtype)))
    # By the logits where these alone choose: several scores may round to 1.
    experts = _choose(logits if bias is None and groups is None else scores, k, bias, groups)
    weights = torch.gather(scores, -1, experts)
    if renormalize:
        weights = weights / (torch.sum(weights, dim=-1, keepdim=True) + RENORMALIZE_EPS)
    return Routing(experts, weights * scale, scores / (torch.sum(scores, dim=-1, keepdim=True) + RENORMALIZE_EPS))


def expert_choice(logits: Float[Tensor, "n E"], factor: float, *, real: Bool[Tensor, " n"] | None = None) -> ExpertChoice:
    """Every expert takes the tokens that have most of ``softmax(logits)`` (over experts) for it, as many as it has places for,
    ``expert_capacity`` of the real tokens (Zhou et al. 2022, https://arxiv.org/abs/2202.09368).

    Tokens compete with later ones: in a causal model this leaks the future. Padding takes no place.
    """
    num_tokens, num_experts = logits.shape
    probabilities = torch.softmax(logits.to(at_least_float32(logits.dtype)), dim=-1)
    real = torch.ones(num_tokens, dtype=torch.bool, device=logits.device) if real is None else real
    most = min(int(expert_capacity(num_tokens, factor, num_experts)), num_tokens)
    tokens = _best(torch.where(real[:, None], probabilities, -1.0).T, most)
    weights = torch.gather(probabilities.T, -1, tokens)
    open_places = torch.arange(tokens.shape[1], device=logits.device) < expert_capacity(torch.sum(real), factor, num_experts)
    taken = real[tokens] & open_places[None, :]
    return ExpertChoice(torch.where(taken, tokens, num_tokens), torch.where(taken, weights, 0.0), probabilities)


def admit(
    experts: Int[Tensor, "n k"], num_experts: int, *, real: Bool[Tensor, " n"] | None = None, factor: float | None = None
) -> Int[Tensor, "n k"]:
    """The experts that do take the tokens: ``num_experts``, which is none, for padding and where an expert is full.

    ``factor`` None is dropless. Otherwise an expert has ``expert_capacity`` places for the k choices of the real tokens, given
    in the order of tokens, and of one token's in the order of its choices: no token loses a place to a later one. What is
    dropped adds nothing to its token, whose other weights stay as they are.
    """
    if real is not None:
        experts = torch.where(real[:, None], experts, num_experts)
    if factor is None:
        return experts
    count = experts.shape[0] if real is None else torch.sum(real)
    places = expert_places(experts.reshape(-1)).reshape(experts.shape)
    return torch.where(places < expert_capacity(count, factor, num_experts, experts.shape[1]), experts, num_experts)


def expert_places(experts: Int[Tensor, " P"]) -> Int[Tensor, " P"]:
    """How many earlier pairs of token and expert are of the same expert."""
    ordered, order = torch.sort(experts, stable=True)
    places = torch.arange(experts.numel(), device=experts.device) - torch.searchsorted(ordered, ordered)
    return torch.zeros_like(places).scatter(0, order, places)


def expert_capacity(tokens: int | Int[Tensor, ""], factor: float, num_experts: int, choices: int = 1) -> int | Int[Tensor, ""]:
    """``ceil(factor * choices * tokens / num_experts)`` places, in whole numbers: rounding may not decide what is dropped.

    ``factor`` is read as the nearest fraction with a denominator of at most 100.
    """
    share = Fraction(factor).limit_denominator(100) * choices / num_experts
    whole, rest = tokens // share.denominator, tokens % share.denominator
    return whole * share.numerator - (-rest * share.numerator // share.denominator)


def _choose(
    scores: Float[Tensor, "*B E"], k: int, bias: Float[Tensor, " E"] | None, groups: Groups | None
) -> Int[Tensor, "*B k"]:
    """Ids of the k highest scores after adding the bias, of the experts of the best groups."""
    num_experts, available = scores.shape[-1], scores.shape[-1]
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    if groups is not None:
        if num_experts % groups.count:
            raise ValueError(f"{num_experts} experts are not {groups.count} groups of one size")
        size = num_experts // groups.count
        available = groups.kept * size
        members = scores.reshape(*scores.shape[:-1], groups.count, size)
        best = torch.gather(members, -1, _best(members, min(groups.top, size)))
        kept = _best(torch.sum(best, dim=-1), groups.kept)
        inside = torch.any(kept[..., None] == torch.arange(groups.count, device=kept.device), dim=-2)
        scores = torch.where(torch.repeat_interleave(inside, size, dim=-1), scores, -torch.inf)
    if k > available:
        raise ValueError(f"{k} experts for every token, but it can choose from {available} only")
    return _best(scores, k)


def _best(scores: Float[Tensor, "*B E"], k: int) -> Int[Tensor, "*B k"]:
    # Not topk, which orders equal values as it likes.
    return torch.argsort(scores, dim=-1, stable=True, descending=True)[..., :k]
