"""What a model refuses before any computation: on the device an out-of-range id would be clamped in silence."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jax_transformer import config
from jax_transformer.config.errors import DataError


def check_tokens(tokens: Int[Array, "B T"], c: config.Model, name: Literal["tokens", "source"] = "tokens") -> Int[Array, "B T"]:
    """``tokens`` as an integer array [B, T] with ids in ``[0, vocab_size)`` and T <= ``max_length``; else DataError.

    The ``source`` of an encoder-decoder is bounded by ``max_source_length`` instead.
    Values are only known, and so only checked, outside ``jax.jit``; the data loader checks what it feeds to a compiled step.
    """
    ids = tokens if isinstance(tokens, jax.Array) else np.asarray(tokens)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise DataError(f"{name}: got shape {tuple(ids.shape)} of {ids.dtype}, wanted integers of shape [batch, length]")
    field = "max_source_length" if name == "source" else "max_length"
    if ids.shape[1] > getattr(c, field):
        raise DataError(f"{name}: got length {ids.shape[1]}, above {field}={getattr(c, field)} of the model")
    if not isinstance(ids, jax.core.Tracer):
        values = np.asarray(ids)
        bad = np.argwhere((values < 0) | (values >= c.vocab_size))
        if len(bad):
            row, column = (int(i) for i in bad[0])
            raise DataError(
                f"{name}[{row}, {column}] = {values[row, column]} is outside the vocabulary [0, {c.vocab_size}) "
                f"({len(bad)} such ids)"
            )
    return jnp.asarray(ids, jnp.int32)


def check_segments(
    segments: Int[Array, "B T"] | None,
    tokens: Int[Array, "B T"],
    name: Literal["tokens", "source"] = "tokens",
    *,
    whole: bool = True,
) -> Int[Array, "B T"] | None:
    """``segments`` as int32, of the shape of ``tokens``, and each of them in one piece if they are ``whole``; else DataError.

    Of a segment in two pieces, positions would begin anew in the second; the new tokens of a cache may go on with it.
    """
    if segments is None:
        return None
    own = "source_segments" if name == "source" else "segments"
    if tuple(segments.shape) != tuple(tokens.shape):
        raise DataError(f"{own}: got shape {tuple(segments.shape)}, wanted {tuple(tokens.shape)}, that of {name}")
    if whole and not isinstance(segments, jax.core.Tracer):
        for row, values in enumerate(np.asarray(segments)):
            starts = values[np.flatnonzero(np.diff(values, prepend=0))]
            numbers, counts = np.unique(starts[starts != 0], return_counts=True)
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                if count > 1:
                    raise DataError(_pieces(f"{own}[{row}]", number, count))
    return jnp.asarray(segments, jnp.int32)


def check_token_types(
    token_types: Int[Array, "B T"] | None, tokens: Int[Array, "B T"], c: config.Embedding
) -> Int[Array, "B T"] | None:
    """``token_types`` as int32, of the shape of ``tokens``, with ids in ``[0, num_token_types)``; else DataError."""
    if token_types is None:
        return None
    types = token_types if isinstance(token_types, jax.Array) else np.asarray(token_types)
    if tuple(types.shape) != tuple(tokens.shape):
        raise DataError(f"token_types: got shape {tuple(types.shape)}, wanted {tuple(tokens.shape)}, that of tokens")
    if c.num_token_types == 0:
        raise DataError("token_types: given to a model without them; set embedding.num_token_types, or leave them out")
    if not isinstance(types, jax.core.Tracer):
        values = np.asarray(types)
        if np.any((values < 0) | (values >= c.num_token_types)):
            raise DataError(
                f"token_types: got {values.min()} to {values.max()}, wanted ids in [0, {c.num_token_types}), the model's "
                "embedding.num_token_types"
            )
    return jnp.asarray(types, jnp.int32)


def check_positions(positions: Int[Array, "B S"], c: config.Embedding, max_length: int) -> None:
    """DataError if a token's position has no row in a learned table, which a lookup would clamp in silence."""
    if isinstance(c.position, config.Learned) and not isinstance(positions, jax.core.Tracer):
        last = int(jnp.max(positions))
        if last >= max_length:
            raise DataError(f"cache: position {last} has no row in the learned table of max_length={max_length} positions")


def check_room(used: Int[Array, ""], new: int, capacity: int) -> None:
    """DataError if ``new`` tokens do not fit behind the ``used`` slots of a cache."""
    if not isinstance(used, jax.core.Tracer) and int(used) + new > capacity:
        raise DataError(
            f"cache: {int(used)} of {capacity} slots are used and {new} more tokens do not fit; ask for a longer cache"
        )


def _pieces(row: str, number: int, count: int) -> str:
    return f"{row}: segment {number} is in {count} pieces, wanted one; number every document of a row differently"
