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

    keys: Float[Array, "*R B S K H"]
    values: Float[Array, "*R B S K H"]

    @staticmethod
    def empty(shape: tuple[int, int, int, int], dtype: DTypeLike) -> "KVCache":
        """Zeros of shape [B, S, K, H]."""
        return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def write(self, keys: Float[Array, "B T K H"], values: Float[Array, "B T K H"], at: Int[Array, ""]) -> "KVCache":
        """Store T tokens in slots ``at`` and after. The caller has checked the room: a write past the end would be clamped."""
        store = jax.lax.dynamic_update_slice_in_dim
        return KVCache(store(self.keys, keys, at, axis=1), store(self.values, values, at, axis=1))
