"""What a request for tokens must satisfy, checked on the host before anything runs."""

from collections.abc import Sequence

import numpy as np

from jax_transformer.config import Model
from jax_transformer.config.errors import DataError

Prompts = Sequence[Sequence[int]]


def check_request(
    c: Model, prompts: Prompts, max_new_tokens: int, stop_tokens: Sequence[int] = (), num_tokens: int | None = None
) -> int:
    """The number of ids that may be sampled, ``num_tokens`` or the whole vocabulary.

    Raises DataError for no prompts, an empty prompt, an id outside the vocabulary, ``max_new_tokens`` below 1, a ``num_tokens``
    that the model does not have, and a prompt that with its new tokens exceeds ``max_length``.
    """
    if max_new_tokens < 1:
        raise DataError(f"max_new_tokens={max_new_tokens}: wanted at least 1")
    num_tokens = c.vocab_size if num_tokens is None else num_tokens
    if not 1 <= num_tokens <= c.vocab_size:
        raise DataError(
            f"num_tokens={num_tokens}: wanted 1 to vocab_size={c.vocab_size}, the ids that the model has; "
            "does the tokenizer belong to this model?"
        )
    if not len(prompts):
        raise DataError("prompts: got none, wanted at least one")
    for row, prompt in enumerate(prompts):
        _check_ids(prompt, c, f"prompts[{row}]")
        _check_length(len(prompt), max_new_tokens, c, f"prompts[{row}]")
    _check_ids(stop_tokens, c, "stop_tokens")
    return num_tokens


def left_pad(rows: Prompts, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows as int32 [B, length], aligned at their ends, and their segments: 1 for a token, 0 for the padding before it."""
    tokens, segments = np.zeros((2, len(rows), length), np.int32)
    for b, row in enumerate(rows):
        start = length - len(row)
        tokens[b, start:] = row
        segments[b, start:] = 1
    return tokens, segments


def _check_ids(ids: Sequence[int], c: Model, where: str) -> None:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError(f"{where}: got {array.dtype} of shape {array.shape}, wanted a sequence of integer token ids")
    bad = np.flatnonzero((array < 0) | (array >= c.vocab_size))
    if bad.size:
        raise DataError(
            f"{where}[{bad[0]}] = {array[bad[0]]} is outside the vocabulary [0, {c.vocab_size}) ({bad.size} such ids)"
        )


def _check_length(length: int, max_new_tokens: int, c: Model, where: str) -> None:
    if length == 0:
        raise DataError(f"{where}: the prompt is empty, wanted at least one token to continue from")
    if length >= c.max_length:
        raise DataError(
            f"{where}: {length} tokens leave no room in max_length={c.max_length}; "
            f"shorten the prompt by at least {length + 1 - c.max_length}"
        )
    if length + max_new_tokens > c.max_length:
        raise DataError(
            f"{where}: {length} tokens + max_new_tokens={max_new_tokens} = {length + max_new_tokens} exceed "
            f"max_length={c.max_length}; ask for at most {c.max_length - length} new tokens"
        )
