"""What a model refuses before any computation."""

import torch
from jaxtyping import Int
from torch import Tensor

from jax_transformer import config
from jax_transformer.config.errors import DataError


def check_tokens(tokens: Int[Tensor, "B T"], c: config.Decoder) -> Int[Tensor, "B T"]:
    """``tokens`` as an int64 tensor [B, T] with ids in ``[0, vocab_size)`` and T <= ``max_length``; else DataError.

    Values are only checked outside ``torch.compile``; the data loader checks what it feeds to a compiled step.
    """
    tokens = torch.as_tensor(tokens)
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        dtype = str(tokens.dtype).removeprefix("torch.")
        raise DataError(f"tokens: got shape {tuple(tokens.shape)} of {dtype}, wanted integers of shape [batch, length]")
    if tokens.shape[1] > c.max_length:
        raise DataError(f"tokens: got length {tokens.shape[1]}, above max_length={c.max_length} of the model")
    tokens = tokens.to(torch.int64)
    if _known(tokens):
        bad = torch.argwhere((tokens < 0) | (tokens >= c.vocab_size))
        if len(bad):
            row, column = bad[0].tolist()
            raise DataError(
                f"tokens[{row}, {column}] = {tokens[row, column]} is outside the vocabulary [0, {c.vocab_size}) "
                f"({len(bad)} such ids)"
            )
    return tokens


def check_segments(segments: Int[Tensor, "B T"] | None, tokens: Int[Tensor, "B T"]) -> Int[Tensor, "B T"] | None:
    """``segments`` as int32, of the shape of ``tokens``; else DataError."""
    if segments is None:
        return None
    if tuple(segments.shape) != tuple(tokens.shape):
        raise DataError(f"segments: got shape {tuple(segments.shape)}, wanted {tuple(tokens.shape)}, that of tokens")
    return torch.as_tensor(segments, dtype=torch.int32, device=tokens.device)


def check_room(used: Int[Tensor, ""], new: int, capacity: int) -> None:
    """DataError if ``new`` tokens do not fit behind the ``used`` slots of a cache."""
    if _known(used) and int(used) + new > capacity:
        raise DataError(
            f"cache: {int(used)} of {capacity} slots are used and {new} more tokens do not fit; ask for a longer cache"
        )


def _known(values: Tensor) -> bool:
    """Whether the values can be looked at without breaking a compiled graph."""
    return not torch.compiler.is_compiling() and not values.is_meta
