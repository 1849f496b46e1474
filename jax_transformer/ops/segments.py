"""Where segments begin, for mixers that carry a state from token to token."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def segment_starts(segments: Int[Array, "B T"]) -> Bool[Array, "B T"]:
    """True at tokens whose last predecessor that is no padding is of another segment: here a state begins anew.

    The first token of a row is no such start: it goes on with the state that the caller has, which for a new text is empty.
    Padding (segment 0) starts nothing.
    """
    index = jnp.arange(segments.shape[1], dtype=jnp.int32)[None, :]
    last = jax.lax.cummax(jnp.where(segments != 0, index, -1), axis=1)
    before = jnp.pad(last[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    earlier = jnp.take_along_axis(segments, jnp.maximum(before, 0), axis=1)
    return (segments != 0) & (before >= 0) & (earlier != segments)


def segment_runs(segments: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """Number of starts so far: 0 for what continues the caller's state; padding counts with what it follows."""
    return jnp.cumsum(segment_starts(segments), axis=1, dtype=jnp.int32)
