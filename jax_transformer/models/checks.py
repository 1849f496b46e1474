"""What a model refuses before any computation: on the device an out-of-range id would be clamped in silence."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jax_transformer import config
from jax_transformer.config.errors import DataError


def check_tokens(tokens: Int[Array, "B T"], c: config.Decoder) -> Int[Array, "B T"]:
    """``tokens`` as an integer array [B, T] with ids in ``[0, vocab_size)`` and T <= ``max_length``; else DataError.

    Values are only known, and so only checked, outside ``jax.jit``; the data loader checks what it feeds to a compiled step.
    """
    ids = tokens if isinstance(tokens, jax.Array) else np.asarray(tokens)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise DataError(f"tokens: got shape {tuple(ids.shape)} of {ids.dtype}, wanted integers of shape [batch, length]")
    if ids.shape[1] > c.max_length:
        raise DataError(f"tokens: got length {ids.shape[1]}, above max_length={c.max_length} of the model")
    if not isinstance(ids, jax.core.Tracer):
        values = np.asarray(ids)
        bad = np.argwhere((values < 0) | (values >= c.vocab_size))
        if len(bad):
            row, column = (int(i) for i in bad[0])
            raise DataError(
                f"tokens[{row}, {column}] = {values[row, column]} is outside the vocabulary [0, {c.vocab_size}) "
                f"({len(bad)} such ids)"
            )
    return jnp.asarray(ids, jnp.int32)


def check_segments(segments: Int[Array, "B T"] | None, tokens: Int[Array, "B T"]) -> Int[Array, "B T"] | None:
    """``segments`` as int32, of the shape of ``tokens``; else DataError."""
    if segments is None:
        return None
    if tuple(segments.shape) != tuple(tokens.shape):
        raise DataError(f"segments: got shape {tuple(segments.shape)}, wanted {tuple(tokens.shape)}, that of tokens")
    return jnp.asarray(segments, jnp.int32)


def check_room(used: Int[Array, ""], new: int, capacity: int) -> None:
    """DataError if ``new`` tokens do not fit behind the ``used`` slots of a cache."""
    if not isinstance(used, jax.core.Tracer) and int(used) + new > capacity:
        raise DataError(
            f"cache: {int(used)} of {capacity} slots are used and {new} more tokens do not fit; ask for a longer cache"
        )
