"""What a request for tokens must satisfy, checked on the host before anything runs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jax_transformer.config import (
    ClassifierHead,
    Decoder,
    DynamicNtkScaling,
    Encoder,
    EncoderDecoder,
    GatedDelta,
    Linear,
    LongRopeScaling,
    MlmHead,
    Model,
    Rope,
)
from jax_transformer.config.errors import DataError
from jax_transformer.config.tree import nodes

Prompts = Sequence[Sequence[int]]


def check_request(
    c: Model, prompts: Prompts, max_new_tokens: int, stop_tokens: Sequence[int] = (), num_tokens: int | None = None
) -> int:
    """The number of ids that may be sampled, ``num_tokens`` or the whole vocabulary.

    Raises DataError for an encoder, no prompts, an empty prompt, an id outside the vocabulary, ``max_new_tokens`` below 1, a
    ``num_tokens`` that the model does not have, and what exceeds its lengths. A decoder's prompt and its new tokens together
    have at most ``max_length``; an encoder-decoder's prompt has at most ``max_source_length``, and its new tokens at most
    ``max_length``: of the target it reads ``start_token`` and every token but the last.
    """
    if isinstance(c, Encoder):
        raise DataError(
            "the model is an encoder, which reads whole texts and writes none: call it on the tokens, for logits over "
            f"{_ANSWER[type(c.head)]}"
        )
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
        if not len(prompt):
            raise DataError(f"prompts[{row}]: the prompt is empty, wanted at least one token")
    _CHECK_LENGTHS[type(c)](c, [len(prompt) for prompt in prompts], max_new_tokens)
    _check_ids(stop_tokens, c, "stop_tokens")
    return num_tokens


def split_prompts(c: Model, prompts: Prompts) -> tuple[Prompts, list[int], int]:
    """What the model reads before the loop, the token of each row that the loop begins with, and the longest it can read.

    A decoder reads a prompt but for its last token, which the loop begins with: its step draws from that token's logits, and
    what comes before needs none. An encoder-decoder reads all of it as the source, and its target begins with ``start_token``.
    """
    return _SPLIT[type(c)](c, prompts)


def rereads(c: Model, prompts: Prompts, max_new_tokens: int) -> list[int]:
    """Steps before which a decoder reads all tokens so far anew, because a rotation of theirs changes.

    Those are the first ones beyond the length at which LongRoPE's long factors begin, and the first of all where prompts are
    rotated by their length, which counts the token that the loop begins with. Not where a layer keeps a state, which cannot
    forget that token.
    """
    if not isinstance(c, Decoder) or any(isinstance(node, GatedDelta | Linear) for node in nodes(c)):
        return []
    steps: set[int] = set()
    for scaling in (node.scaling for node in nodes(c) if isinstance(node, Rope)):
        if isinstance(scaling, LongRopeScaling) and scaling.short_factors != scaling.long_factors:
            steps |= {scaling.original_length + 1 - len(prompt) for prompt in prompts}
        if isinstance(scaling, DynamicNtkScaling) and max(map(len, prompts)) > scaling.original_length:
            steps.add(0)
    return sorted(step for step in steps if 0 <= step < max_new_tokens)


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


def _check_continuations(c: Decoder, lengths: Sequence[int], max_new_tokens: int) -> None:
    for row, length in enumerate(lengths):
        if length >= c.max_length:
            raise DataError(
                f"prompts[{row}]: {length} tokens leave no room in max_length={c.max_length}; "
                f"shorten the prompt by at least {length + 1 - c.max_length}"
            )
        if length + max_new_tokens > c.max_length:
            raise DataError(
                f"prompts[{row}]: {length} tokens + max_new_tokens={max_new_tokens} = {length + max_new_tokens} exceed "
                f"max_length={c.max_length}; ask for at most {c.max_length - length} new tokens"
            )


def _check_sources(c: EncoderDecoder, lengths: Sequence[int], max_new_tokens: int) -> None:
    for row, length in enumerate(lengths):
        if length > c.max_source_length:
            raise DataError(
                f"prompts[{row}]: {length} tokens exceed max_source_length={c.max_source_length}; "
                f"shorten the prompt by at least {length - c.max_source_length}"
            )
    if max_new_tokens > c.max_length:
        raise DataError(
            f"max_new_tokens={max_new_tokens} exceed max_length={c.max_length} of the target; "
            f"ask for at most {c.max_length} new tokens"
        )


def _split_last(c: Decoder, prompts: Prompts) -> tuple[Prompts, list[int], int]:
    return [prompt[:-1] for prompt in prompts], [int(prompt[-1]) for prompt in prompts], c.max_length


def _split_none(c: EncoderDecoder, prompts: Prompts) -> tuple[Prompts, list[int], int]:
    return prompts, [c.start_token] * len(prompts), c.max_source_length


_ANSWER = {MlmHead: "the vocabulary at every position, the masked ones too", ClassifierHead: "the classes of every row"}
_CHECK_LENGTHS: dict[type[Any], Callable[..., None]] = {Decoder: _check_continuations, EncoderDecoder: _check_sources}
_SPLIT: dict[type[Any], Callable[..., tuple[Prompts, list[int], int]]] = {Decoder: _split_last, EncoderDecoder: _split_none}
