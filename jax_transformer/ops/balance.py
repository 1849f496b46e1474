"""What keeps the experts of a mixture equally busy: terms of the loss, before any coefficient, and the choice bias."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_transformer.ops.precision import at_least_float32


class Usage(NamedTuple):
    """How the experts of one layer were used by a batch: what its loss terms are, before any coefficient."""

    load_balance: Float[Array, ""]
    router_z: Float[Array, ""]
    counts: Int[Array, " E"]
    """Choices of each expert by real tokens, or tokens that it took itself."""


def expert_counts(experts: Int[Array, "*B k"], num_experts: int, *, real: Bool[Array, "*B"] | None = None) -> Int[Array, " E"]:
    """How many choices of the real tokens each expert has, whether it had a place for them or not.

    They add up over micro-batches and devices.
    """
    chosen = jax.nn.one_hot(experts, num_experts, dtype=bool)
    if real is not None:
        chosen = chosen & real[..., None, None]
    return jnp.sum(chosen.reshape(-1, num_experts), axis=0, dtype=jnp.int32)


def expert_load(counts: Int[Array, " E"]) -> Float[Array, " E"]:
    """The fraction of all choices that each expert has, in float32: sums to 1, or is zeros where there are none."""
    return counts.astype(jnp.float32) / jnp.maximum(jnp.sum(counts), 1).astype(jnp.float32)


def load_balance(
    counts: Int[Array, " E"], probabilities: Float[Array, "*B E"], *, real: Bool[Array, "*B"] | None = None
) -> Float[Array, ""]:
    """``E sum_e f_e P_e`` of the fractions f of the choices and the mean probabilities P of real tokens (Fedus et al. 2021,
    https://arxiv.org/abs/2101.03961): 1 where all experts are equally busy, whatever k; 0 without a real token.

    That of transformers is k times this: its f sum to k.
    """
    num_experts = probabilities.shape[-1]
    wide = probabilities.astype(at_least_float32(probabilities.dtype)).reshape(-1, num_experts)
    total = jnp.sum(counts.astype(wide.dtype) * _mean(wide, real))
    return num_experts * total / jnp.maximum(jnp.sum(counts), 1).astype(wide.dtype)


def router_z(logits: Float[Array, "*B E"], *, real: Bool[Array, "*B"] | None = None) -> Float[Array, ""]:
    """``mean(logsumexp(logits)^2)`` over real tokens, which keeps logits small (Zoph et al. 2022,
    https://arxiv.org/abs/2202.08906); 0 without a real token."""
    wide = logits.astype(at_least_float32(logits.dtype))
    return _mean(jnp.square(jax.nn.logsumexp(wide, axis=-1)).reshape(-1), real)


def balanced_bias(bias: Float[Array, " E"], counts: Int[Array, " E"], rate: float) -> Float[Array, " E"]:
    """The choice bias after a step: ``rate`` more for experts with fewer choices than the mean, as much less for those with
    more (Wang et al. 2024, https://arxiv.org/abs/2408.15664)."""
    # In whole numbers: the sign of a rounding error would be a step as large as any other.
    total = jnp.sum(counts, dtype=counts.dtype)
    mean, rest = total // counts.size, total % counts.size
    missing = jnp.where(counts == mean, jnp.sign(rest), jnp.sign(mean - counts))
    return bias + rate * missing.astype(bias.dtype)


def _mean(x: Float[Array, "n *E"], real: Bool[Array, "*B"] | None) -> Float[Array, "*E"]:
    """Over the real tokens."""
    if real is None:
        return jnp.mean(x, axis=0)
    flat = real.reshape(-1)
    kept = jnp.where(flat.reshape(-1, *(1,) * (x.ndim - 1)), x, 0.0)
    return jnp.sum(kept, axis=0) / jnp.maximum(jnp.sum(flat), 1).astype(x.dtype)
