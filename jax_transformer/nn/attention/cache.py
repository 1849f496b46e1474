"""What a layer remembers between decoding steps."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KVCache:
    """Keys (after rotation) and values of the tokens so far, in preallocated slots; stacked layers have a leading axis."""

    keys: Float[Array, "*L B S K H"]
    values: Float[Array, "*L B S K V"]

    @staticmethod
    def empty(shape: tuple[int, int, int, int], dtype: DTypeLike, v_dim: int | None = None) -> "KVCache":
        """Zeros: keys of shape [B, S, K, H], values as wide or ``v_dim`` wide."""
        return KVCache(jnp.zeros(shape, dtype), jnp.zeros((*shape[:3], v_dim or shape[3]), dtype))

    def write(self, keys: Float[Array, "B T K H"], values: Float[Array, "B T K V"], at: Int[Array, ""]) -> "KVCache":
        """Store T tokens in slots ``at`` and after. The caller has checked the room: a write past the end would be clamped."""
        store = jax.lax.dynamic_update_slice_in_dim
        return KVCache(store(self.keys, keys, at, axis=1), store(self.values, values, at, axis=1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LatentCache:
    """What multi-head latent attention expands keys and values from, in preallocated slots; stacked as in ``KVCache``."""

    latents: Float[Array, "*L B S R"]
    """Normalised."""
    rope_keys: Float[Array, "*L B S H"]
    """Rotated, the same for every head."""

    @staticmethod
    def empty(shape: tuple[int, int], widths: tuple[int, int], dtype: DTypeLike) -> "LatentCache":
        """Zeros of shape [B, S] times the widths of latents and of rotated keys."""
        return LatentCache(*(jnp.zeros((*shape, width), dtype) for width in widths))

    def write(self, latents: Float[Array, "B T R"], rope_keys: Float[Array, "B T H"], at: Int[Array, ""]) -> "LatentCache":
        """Store T tokens in slots ``at`` and after. The caller has checked the room: a write past the end would be clamped."""
        store = jax.lax.dynamic_update_slice_in_dim
        return LatentCache(store(self.latents, latents, at, axis=1), store(self.rope_keys, rope_keys, at, axis=1))
