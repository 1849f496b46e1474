"""Routers of mixtures of experts: which experts every token goes to and with what weights, or which tokens an expert takes.

Everything is float32 at least. Of equal scores the one of the lower id wins, whether of experts, groups or tokens. Noise on the
logits is the caller's.
"""

from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_transformer.ops.precision import at_least_float32

RENORMALIZE_EPS = 1e-20
"""Added to the sum of sigmoid scores, which may all be 0."""


class Routing(NamedTuple):
    """The experts of every token, best first, and their weights; ``probabilities``, by which balance is judged, sum to 1."""

    experts: Int[Array, "*B k"]
    weights: Float[Array, "*B k"]
    probabilities: Float[Array, "*B E"]


class Groups(NamedTuple):
    """Experts in ``count`` groups of neighbouring ids, of which each token may use the best ``kept``.

    A group's score is the sum of its ``top`` best: 2 in DeepSeek-V3 and 1, the best alone, in DeepSeek-V2.
    """

    count: int
    kept: int
    top: int = 2


class ExpertChoice(NamedTuple):
    """The tokens of every expert, best first; in a place that stays empty it is ``n``, which is none, of weight 0."""

    tokens: Int[Array, "E C"]
    weights: Float[Array, "E C"]
    probabilities: Float[Array, "n E"]


def softmax_top_k(
    logits: Float[Array, "*B E"],
    k: int,
    *,
    renormalize: bool = False,
    floor: float = 0.0,
    bias: Float[Array, " E"] | None = None,
    groups: Groups | None = None,
    scale: float = 1.0,
) -> Routing:
    """The k highest of ``p = softmax(logits)``; their weights ``scale * p``, renormalised ``scale * p / max(sum(p), floor)``.

    Mixtral and Qwen3 renormalise, OLMoE and DeepSeek-V2 (with ``groups`` of ``top=1``) do not, ERNIE 4.5 has a ``bias``, which
    is added to choose and not to weigh, and a ``floor``.

    Raises:
        ValueError: There are fewer than k experts to choose from, or groups of unequal size.
    """
    probabilities = jax.nn.softmax(logits.astype(at_least_float32(logits.dtype)), axis=-1)
    experts = _choose(probabilities, k, bias, groups)
    weights = jnp.take_along_axis(probabilities, experts, axis=-1)
    if renormalize:
        weights = weights / jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), floor)
    return Routing(experts, weights * scale, probabilities)


def top_k_softmax(logits: Float[Array, "*B E"], k: int) -> Routing:
    """The k highest logits, and the softmax over these alone (gpt-oss, Granite); ``probabilities`` are over all.

    The same function as a renormalised ``softmax_top_k``.

    Raises:
        ValueError: There are fewer than k experts.
    """
    logits = logits.astype(at_least_float32(logits.dtype))
    experts = _choose(logits, k, None, None)
    weights = jax.nn.softmax(jnp.take_along_axis(logits, experts, axis=-1), axis=-1)
    return Routing(experts, weights, jax.nn.softmax(logits, axis=-1))


def sigmoid_top_k(
    logits: Float[Array, "*B E"],
    k: int,
    *,
    renormalize: bool = True,
    bias: Float[Array, " E"] | None = None,
    groups: Groups | None = None,
    scale: float = 1.0,
) -> Routing:
    """The k highest of ``s + bias``, ``s = sigmoid(logits)``; their weights ``scale * s``, renormalised by ``sum(s) + 1e-20``.

    DeepSeek-V3 (https://arxiv.org/abs/2412.19437), GLM-4.5 and dots.llm1, without groups MiniMax-M2, without groups and bias
    Llama 4. The bias only chooses. ``probabilities`` are ``s / sum(s)`` over all experts.

    Raises:
        ValueError: There are fewer than k experts to choose from, or groups of unequal size.
    """
    scores = jax.nn.sigmoid(logits.astype(at_least_float32(logits.dtype)))
    # By the logits where these alone choose: several scores may round to 1.
    experts = _choose(logits if bias is None and groups is None else scores, k, bias, groups)
    weights = jnp.take_along_axis(scores, experts, axis=-1)
    if renormalize:
        weights = weights / (jnp.sum(weights, axis=-1, keepdims=True) + RENORMALIZE_EPS)
    return Routing(experts, weights * scale, scores / (jnp.sum(scores, axis=-1, keepdims=True) + RENORMALIZE_EPS))


def expert_choice(logits: Float[Array, "n E"], factor: float, *, real: Bool[Array, " n"] | None = None) -> ExpertChoice:
    """Every expert takes the tokens that have most of ``softmax(logits)`` (over experts) for it, as many as it has places for,
    ``expert_capacity`` of the real tokens (Zhou et al. 2022, https://arxiv.org/abs/2202.09368).

    Tokens compete with later ones: in a causal model this leaks the future. Padding takes no place.
    """
    num_tokens, num_experts = logits.shape
    probabilities = jax.nn.softmax(logits.astype(at_least_float32(logits.dtype)), axis=-1)
    real = jnp.ones(num_tokens, bool) if real is None else real
    most = min(int(expert_capacity(num_tokens, factor, num_experts)), num_tokens)
    tokens = _best(jnp.where(real[:, None], probabilities, -1.0).T, most)
    weights = jnp.take_along_axis(probabilities.T, tokens, axis=-1)
    open_places = jnp.arange(tokens.shape[1]) < expert_capacity(jnp.sum(real, dtype=jnp.int32), factor, num_experts)
    taken = real[tokens] & open_places[None, :]
    return ExpertChoice(jnp.where(taken, tokens, num_tokens), jnp.where(taken, weights, 0.0), probabilities)


def admit(
    experts: Int[Array, "n k"], num_experts: int, *, real: Bool[Array, " n"] | None = None, factor: float | None = None
) -> Int[Array, "n k"]:
    """The experts that do take the tokens: ``num_experts``, which is none, for padding and where an expert is full.

    ``factor`` None is dropless. Otherwise an expert has ``expert_capacity`` places for the k choices of the real tokens, given
    in the order of tokens, and of one token's in the order of its choices: no token loses a place to a later one. What is
    dropped adds nothing to its token, whose other weights stay as they are.
    """
    if real is not None:
        experts = jnp.where(real[:, None], experts, num_experts)
    if factor is None:
        return experts
    count = experts.shape[0] if real is None else jnp.sum(real, dtype=jnp.int32)
    places = expert_places(experts.reshape(-1)).reshape(experts.shape)
    return jnp.where(places < expert_capacity(count, factor, num_experts, experts.shape[1]), experts, num_experts)


def expert_places(experts: Int[Array, " P"]) -> Int[Array, " P"]:
    """How many earlier pairs of token and expert are of the same expert."""
    order = jnp.argsort(experts, stable=True)
    ordered = experts[order]
    places = jnp.arange(experts.size, dtype=jnp.int32) - jnp.searchsorted(ordered, ordered).astype(jnp.int32)
    return jnp.zeros_like(places).at[order].set(places)


def expert_capacity(tokens: int | Int[Array, ""], factor: float, num_experts: int, choices: int = 1) -> int | Int[Array, ""]:
    """``ceil(factor * choices * tokens / num_experts)`` places, in whole numbers: rounding may not decide what is dropped.

    ``factor`` is read as the nearest fraction with a denominator of at most 100.
    """
    share = Fraction(factor).limit_denominator(100) * choices / num_experts
    whole, rest = tokens // share.denominator, tokens % share.denominator
    return whole * share.numerator - (-rest * share.numerator // share.denominator)


def _choose(scores: Float[Array, "*B E"], k: int, bias: Float[Array, " E"] | None, groups: Groups | None) -> Int[Array, "*B k"]:
    """Ids of the k highest scores after adding the bias, of the experts of the best groups."""
    num_experts, available = scores.shape[-1], scores.shape[-1]
    if bias is not None:
        scores = scores + jnp.broadcast_to(bias.astype(scores.dtype), scores.shape)
    if groups is not None:
        if num_experts % groups.count:
            raise ValueError(f"{num_experts} experts are not {groups.count} groups of one size")
        size = num_experts // groups.count
        available = groups.kept * size
        members = scores.reshape(*scores.shape[:-1], groups.count, size)
        best = jnp.take_along_axis(members, _best(members, min(groups.top, size)), axis=-1)
        kept = _best(jnp.sum(best, axis=-1), groups.kept)
        inside = jnp.repeat(jnp.any(jax.nn.one_hot(kept, groups.count, dtype=bool), axis=-2), size, axis=-1)
        scores = jnp.where(inside, scores, -jnp.inf)
    if k > available:
        raise ValueError(f"{k} experts for every token, but it can choose from {available} only")
    return _best(scores, k)


def _best(scores: Float[Array, "*B E"], k: int) -> Int[Array, "*B k"]:
    # Not top_k, for which -0 is less than 0: a router of zeros gives both.
    return jnp.argsort(scores, axis=-1, stable=True, descending=True)[..., :k].astype(jnp.int32)
