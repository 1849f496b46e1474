"""What a decoder remembers between calls."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jax_transformer.models.checks import check_room
from jax_transformer.nn.stack import StackCache
from jax_transformer.ops.mask import Mask


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Source:
    """The encoder's output as the decoder's layers read it."""

    layers: StackCache
    """Keys and values of every cross-attention."""
    mask: Mask
    """Of the source over itself: its key side tells where the tokens are."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """Everything a decoder remembers of the tokens so far."""

    layers: StackCache
    positions: Int[Array, "B S"]
    segments: Int[Array, "B S"]
    """1 where a slot holds a token, 0 where it is empty or holds padding."""
    length: Int[Array, ""]
    """Slots in use, the same in every row."""
    source: Source | None = None

    @staticmethod
    def empty(layers: StackCache, batch: int, length: int, source: Source | None = None) -> "Cache":
        """No token yet."""
        slots = jnp.zeros((batch, length), jnp.int32)
        return Cache(layers, slots, slots, jnp.zeros((), jnp.int32), source)

    def extend(self, segments: Int[Array, "B T"]) -> "Cache":
        """The cache with T more tokens counted, their layers still to be written; ``segments`` are 1, or 0 for padding.

        Padding takes a slot but no position. Raises DataError, outside ``jax.jit``, where there is no room.
        """
        check_room(self.length, segments.shape[1], self.positions.shape[1])
        past = jnp.sum(self.segments, axis=1, keepdims=True, dtype=jnp.int32)
        positions = past + jnp.cumsum(segments, axis=1, dtype=jnp.int32) - 1
        store = jax.lax.dynamic_update_slice_in_dim
        positions = store(self.positions, positions, self.length, axis=1)
        segments_then = store(self.segments, segments, self.length, axis=1)
        return Cache(self.layers, positions, segments_then, self.length + segments.shape[1], self.source)

    def without_last(self) -> "Cache":
        """All but the newest token; only what layers remember by slots can forget it."""
        segments = jax.lax.dynamic_update_slice_in_dim(
            self.segments, jnp.zeros_like(self.segments[:, :1]), self.length - 1, axis=1
        )
        return replace(self, segments=segments, length=self.length - 1)

    def newest(self, count: int) -> Mask:
        """Mask of the last ``count`` tokens over all of them."""
        start = self.length - count
        part = jax.lax.dynamic_slice_in_dim
        queries = [part(values, start, count, axis=1) for values in (self.positions, self.segments)]
        return Mask(queries[0], self.positions, queries[1], self.segments)
