"""Numbers that change with the step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jax_transformer import config

Schedule = Callable[[ArrayLike], Float[Array, ""]]


def learning_rate(c: config.Train) -> Schedule:
    """Linear warmup, then cosine decay.

    Step ``n`` of the first ``warmup_steps`` uses ``learning_rate * (n + 1) / warmup_steps``, so the first step already learns;
    after that half a cosine falls from ``learning_rate`` to ``min_learning_rate``, which step ``steps`` would reach.
    """
    decay_steps = c.steps - c.warmup_steps

    def at(step: ArrayLike) -> jax.Array:
        step = jnp.asarray(step, float)
        warm = c.learning_rate * (step + 1) / max(c.warmup_steps, 1)
        progress = jnp.clip((step - c.warmup_steps) / decay_steps, 0.0, 1.0)
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * progress))
        decayed = c.min_learning_rate + (c.learning_rate - c.min_learning_rate) * cosine
        return jnp.where(step < c.warmup_steps, warm, decayed)

    return at


def dropout_scale(c: config.Train) -> Schedule:
    """Factor on every dropout rate: 1, or ``dropout_anneal`` moving linearly from ``start`` to ``end`` over its ``steps``."""
    anneal = c.dropout_anneal
    if anneal is None:
        return lambda step: jnp.ones((), jnp.float32)
    linear = optax.schedules.linear_schedule(anneal.start, anneal.end, anneal.steps)
    return lambda step: jnp.asarray(linear(step), jnp.float32)
