"""Dropping values at random, with the randomness handed in."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Noise:
    """The randomness of one forward pass. A model called without it drops nothing: that is evaluation.

    ``scale`` multiplies every drop rate, so that a schedule can anneal dropout without a new compilation.
    """

    key: Key[Array, "..."]
    scale: Float[Array, "..."] | float = 1.0

    def fold(self, number: int) -> "Noise":
        """Independent noise for the part of the model with this number."""
        return Noise(jax.random.fold_in(self.key, number), self.scale)

    def split(self, count: int) -> "Noise":
        """``count`` independent noises, stacked along a leading axis."""
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.key, jnp.arange(count))
        return Noise(keys, jnp.broadcast_to(jnp.asarray(self.scale, jnp.float32), (count,)))


def dropout(x: Float[Array, "*B"], rate: float, noise: Noise | None) -> Float[Array, "*B"]:
    """Zero each value with probability ``rate * noise.scale`` and divide the others by the keep probability."""
    if noise is None or rate == 0.0:
        return x
    return _keep(x, x.shape, rate, noise)


def drop_path(x: Float[Array, "B *D"], rate: float | Float[Array, ""] | None, noise: Noise | None) -> Float[Array, "B *D"]:
    """Zero whole samples with probability ``rate * noise.scale`` (https://arxiv.org/abs/1603.09382); no rate, no drop."""
    if noise is None or rate is None:
        return x
    return _keep(x, (x.shape[0],) + (1,) * (x.ndim - 1), rate, noise)


def jitter(x: Float[Array, "*B"], std: float, noise: Noise | None) -> Float[Array, "*B"]:
    """``x`` plus normal values with ``std``, which ``noise.scale`` does not change."""
    if noise is None or std == 0.0:
        return x
    return x + std * jax.random.normal(noise.key, x.shape, x.dtype)


def _keep(x: Float[Array, "*B"], shape: tuple[int, ...], rate: float | Float[Array, ""], noise: Noise) -> Float[Array, "*B"]:
    keep_probability = 1.0 - jnp.asarray(rate * noise.scale, jnp.float32)
    keep = jax.random.uniform(noise.key, shape, jnp.float32) < keep_probability
    return jnp.where(keep, x / keep_probability.astype(x.dtype), jnp.zeros((), x.dtype))
