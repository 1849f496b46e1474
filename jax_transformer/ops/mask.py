"""Who sees whom, as data: positions and segments per token, turned into booleans only inside the kernel."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mask:
    """Positions and segments of the queries and of the keys; a leading dimension of 1 stands for every row.

    Segment 0 is padding: it is seen by nobody and sees nobody. Tokens of different segments do not see one another.
    Segments of None mean one segment per row and no padding.
    """

    q_positions: Int[Array, "#B T"]
    k_positions: Int[Array, "#B S"]
    q_segments: Int[Array, "B T"] | None = None
    k_segments: Int[Array, "B S"] | None = None
    causal: bool = field(default=True, metadata={"static": True})
    """Whether a token sees only what is not later than itself."""

    def allowed(self, window: int | None = None, sink_tokens: int = 0, chunk_size: int | None = None) -> Bool[Array, "#B T S"]:
        """True where query t may see key s: same segment, if causal not later, inside the window and in its chunk.

        The window is ``0 <= q_position - k_position < window`` if causal, else ``|q_position - k_position| <= window``; the
        first ``sink_tokens`` positions of a segment are seen from beyond it. The chunk of a position is
        ``position // chunk_size``.
        """
        distance = -self.offsets()
        seen = distance >= 0 if self.causal else jnp.ones_like(distance, bool)
        if window is not None:
            near = distance < window if self.causal else jnp.abs(distance) <= window
            seen = seen & (near | (self.k_positions[:, None, :] < sink_tokens))
        if chunk_size is not None:
            seen = seen & (self.k_positions[:, None, :] // chunk_size == self.q_positions[:, :, None] // chunk_size)
        if self.q_segments is not None and self.k_segments is not None:
            seen = seen & self._same_segment()
        return seen

    def offsets(self) -> Int[Array, "#B T S"]:
        """``k_position - q_position``: how far after query t key s is."""
        return self.k_positions[:, None, :] - self.q_positions[:, :, None]

    def lengths(self) -> Int[Array, "#B T"]:
        """Tokens in the segment of each query, as far as the keys know them."""
        if self.q_segments is None or self.k_segments is None:
            return jnp.broadcast_to(jnp.max(self.k_positions, axis=1, keepdims=True) + 1, self.q_positions.shape)
        return jnp.max(jnp.where(self._same_segment(), self.k_positions[:, None, :], 0), axis=-1) + 1

    def _same_segment(self) -> Bool[Array, "B T S"]:
        assert self.q_segments is not None
        assert self.k_segments is not None
        same = self.q_segments[:, :, None] == self.k_segments[:, None, :]
        return same & (self.k_segments[:, None, :] != 0)


def causal_mask(length: int, segments: Int[Array, "B T"] | None = None) -> Mask:
    """Mask of a whole sequence over itself, each token seeing those before it."""
    return _over_itself(length, segments, causal=True)


def bidirectional_mask(length: int, segments: Int[Array, "B T"] | None = None) -> Mask:
    """Mask of a whole sequence over itself, each token seeing all of its segment."""
    return _over_itself(length, segments, causal=False)


def cross_mask(queries: Mask, keys: Mask) -> Mask:
    """Mask from the queries of one sequence to the keys of another: segments of the same number see one another."""
    q_segments, k_segments = queries.q_segments, keys.k_segments
    if q_segments is None and k_segments is not None:
        q_segments = jnp.ones((k_segments.shape[0], queries.q_positions.shape[1]), jnp.int32)
    if k_segments is None and q_segments is not None:
        k_segments = jnp.ones((q_segments.shape[0], keys.k_positions.shape[1]), jnp.int32)
    return Mask(queries.q_positions, keys.k_positions, q_segments, k_segments, causal=False)


def segment_positions(segments: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """Position of each token inside its own segment: counts from 0 and restarts wherever the segment id changes."""
    index = jnp.arange(segments.shape[1], dtype=jnp.int32)[None, :]
    changes = segments[:, 1:] != segments[:, :-1]
    starts = jnp.pad(jnp.where(changes, index[:, 1:], 0), ((0, 0), (1, 0)))
    return index - jax.lax.cummax(starts, axis=1)


def _over_itself(length: int, segments: Int[Array, "B T"] | None, causal: bool) -> Mask:
    if segments is None:
        positions = jnp.arange(length, dtype=jnp.int32)[None, :]
        return Mask(positions, positions, causal=causal)
    positions = segment_positions(segments)
    return Mask(positions, positions, segments, segments, causal)
