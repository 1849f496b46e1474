"""The language-modelling loss."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_transformer.ops.precision import at_least_float32


def next_token_weights(segments: Int[Array, "B length"]) -> Float[Array, "B T"]:
    """1 where a token and its successor belong to the same segment and neither is padding, else 0."""
    current, following = segments[:, :-1], segments[:, 1:]
    return ((current == following) & (following != 0)).astype(jnp.float32)


def cross_entropy(logits: Float[Array, "B T V"], targets: Int[Array, "B T"], weights: Float[Array, "B T"]) -> Float[Array, ""]:
    """``sum(weights * (logsumexp(logits) - logits[target]))`` in nats, in float32 at least.

    A sum and not a mean: micro-batches and processes with different numbers of real tokens then add up exactly.
    """
    wide = logits.astype(at_least_float32(logits.dtype))
    target_logits = jnp.take_along_axis(wide, targets[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(wide, axis=-1) - target_logits
    return jnp.sum(losses * weights.astype(wide.dtype))
