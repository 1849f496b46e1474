"""What a model refuses before any computation."""

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from jax_transformer import config
from jax_transformer.config.errors import DataError


def check_tokens(
    tokens: Int[Tensor, "B T"], c: config.Model, name: Literal["tokens", "source"] = "tokens"
) -> Int[Tensor, "B T"]:
    """``tokens`` as an int64 tensor [B, T] with ids in ``[0, vocab_size)`` and T <= ``max_length``; else DataError.

    The ``source`` of an encoder-decoder is bounded by ``max_source_length`` instead.
    Values are only checked outside ``torch.compile``; the data loader checks what it feeds to a compiled step.
    """
    tokens = torch.as_tensor(tokens)
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        dtype = str(tokens.dtype).removeprefix("torch.")
        raise DataError(f"{name}: got shape {tuple(tokens.shape)} of {dtype}, wanted integers of shape [batch, length]")
    field = "max_source_length" if name == "source" else "max_length"
    if tokens.shape[1] > getattr(c, field):
        raise DataError(f"{name}: got length {tokens.shape[1]}, above {field}={getattr(c, field)} of the model")
    tokens = tokens.to(torch.int64)
    if _known(tokens):
        bad = torch.argwhere((tokens < 0) | (tokens >= c.vocab_size))
        if len(bad):
            row, column = bad[0].tolist()
            raise DataError(
                f"{name}[{row}, {column}] = {tokens[row, column]} is outside the vocabulary [0, {c.vocab_size}) "
                f"({len(bad)} such ids)"
            )
    return tokens


def check_segments(
    segments: Int[Tensor, "B T"] | None,
    tokens: Int[Tensor, "B T"],
    name: Literal["tokens", "source"] = "tokens",
    *,
    whole: bool = True,
) -> Int[Tensor, "B T"] | None:
    """``segments`` as int32, of the shape of ``tokens``, and each of them in one piece if they are ``whole``; else DataError.

    Of a segment in two pieces, positions would begin anew in the second; the new tokens of a cache may go on with it.
    """
    if segments is None:
        return None
    own = "source_segments" if name == "source" else "segments"
    if tuple(segments.shape) != tuple(tokens.shape):
        raise DataError(f"{own}: got shape {tuple(segments.shape)}, wanted {tuple(tokens.shape)}, that of {name}")
    segments = torch.as_tensor(segments, dtype=torch.int32, device=tokens.device)
    if whole and _known(segments):
        for row, values in enumerate(segments):
            starts = torch.unique_consecutive(values)
            numbers, counts = torch.unique(starts[starts != 0], return_counts=True)
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                if count > 1:
                    raise DataError(_pieces(f"{own}[{row}]", number, count))
    return segments


def check_token_types(
    token_types: Int[Tensor, "B T"] | None, tokens: Int[Tensor, "B T"], c: config.Embedding
) -> Int[Tensor, "B T"] | None:
    """``token_types`` as int64, of the shape of ``tokens``, with ids in ``[0, num_token_types)``; else DataError."""
    if token_types is None:
        return None
    types = torch.as_tensor(token_types)
    if tuple(types.shape) != tuple(tokens.shape):
        raise DataError(f"token_types: got shape {tuple(types.shape)}, wanted {tuple(tokens.shape)}, that of tokens")
    if c.num_token_types == 0:
        raise DataError("token_types: given to a model without them; set embedding.num_token_types, or leave them out")
    if _known(types) and bool(((types < 0) | (types >= c.num_token_types)).any()):
        raise DataError(
            f"token_types: got {int(types.min())} to {int(types.max())}, wanted ids in [0, {c.num_token_types}), the model's "
            "embedding.num_token_types"
        )
    return types.to(tokens.device, torch.int64)


def check_positions(positions: Int[Tensor, "B S"], c: config.Embedding, max_length: int) -> None:
    """DataError if a token's position has no row in a learned table."""
    if isinstance(c.position, config.Learned) and _known(positions):
        last = int(positions.max())
        if last >= max_length:
            raise DataError(f"cache: position {last} has no row in the learned table of max_length={max_length} positions")


def check_room(used: Int[Tensor, ""], new: int, capacity: int) -> None:
    """DataError if ``new`` tokens do not fit behind the ``used`` slots of a cache."""
    if _known(used) and int(used) + new > capacity:
        raise DataError(
            f"cache: {int(used)} of {capacity} slots are used and {new} more tokens do not fit; ask for a longer cache"
        )


def _known(values: Tensor) -> bool:
    """Whether the values can be looked at without breaking a compiled graph."""
    return not torch.compiler.is_compiling() and not values.is_meta


def _pieces(row: str, number: int, count: int) -> str:
    return f"{row}: segment {number} is in {count} pieces, wanted one; number every document of a row differently"
