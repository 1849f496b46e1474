"""What a layer remembers between decoding steps."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from jax_transformer.ops.precision import at_least_float32


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LinearCache:
    """The sums over all tokens so far that linear attention reads, in float32 at least; stacked as in ``KVCache``."""

    sums: Float[Array, "*L B K H V"]
    """Of ``phi(k) v^T``."""
    norms: Float[Array, "*L B K H"]
    """Of ``phi(k)``."""

    @staticmethod
    def empty(shape: tuple[int, int, int, int], dtype: DTypeLike) -> "LinearCache":
        """Zeros: sums of shape [B, K, H, V]."""
        wide = at_least_float32(dtype)
        return LinearCache(jnp.zeros(shape, wide), jnp.zeros(shape[:-1], wide))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DeltaCache:
    """What Gated DeltaNet carries from token to token; stacked as in ``KVCache``."""

    q_window: Float[Array, "*L B P Q"]
    """The last columns that the short convolution saw, before it."""
    k_window: Float[Array, "*L B P Q"]
    v_window: Float[Array, "*L B P C"]
    state: Float[Array, "*L B N H V"]
    """In float32 at least."""

    @staticmethod
    def empty(shape: tuple[int, int, int, int], past: int, key_channels: int, dtype: DTypeLike) -> "DeltaCache":
        """Zeros: a state of shape [B, N, H, V], windows of ``past`` columns of all key or value heads."""
        batch, heads, _, v_dim = shape
        q, k, v = (jnp.zeros((batch, past, width), dtype) for width in (key_channels, key_channels, heads * v_dim))
        return DeltaCache(q, k, v, jnp.zeros(shape, at_least_float32(dtype)))
