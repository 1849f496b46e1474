"""Rows that are corrupted as they are read: what is drawn depends on a seed and the row's number, and on nothing else."""

from collections.abc import Callable
from functools import partial

import numpy as np

from jax_transformer.config import Data, MaskedLm, Objective, SpanCorruption
from jax_transformer.data.examples import source_target_row
from jax_transformer.data.masking import mask_tokens
from jax_transformer.data.packing import Row, Rows
from jax_transformer.data.spans import cut_spans, noise_mask

Corrupt = Callable[[Row, np.random.Generator], Row]
"""A row of text to a row of the objective."""

TRAINING, VALIDATION = 0, 1
"""Streams of random numbers of one seed."""


class CorruptedRows:
    """Rows of which each is always corrupted in the same way: what validation reads."""

    def __init__(self, rows: Rows, corrupt: Corrupt, seed: int) -> None:
        self._rows = rows
        self._corrupt = corrupt
        self._seed = seed

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self._corrupt(self._rows[index], row_generator(self._seed, VALIDATION, index))


def row_generator(seed: int, stream: int, number: int) -> np.random.Generator:
    """The random numbers of row ``number``, which in training goes on counting from one epoch to the next."""
    return np.random.default_rng([seed, stream, number])


def corruption(objective: Objective, data: Data, tokens: int, vocab_size: int, start_token: int) -> Corrupt | None:
    """How ``objective`` corrupts a row of text; None where it reads rows as they are.

    ``tokens`` is the tokenizer's number of ids and ``vocab_size`` the model's, whose last ids are the mask or the sentinels.
    """
    match objective:
        case MaskedLm():
            return lambda row, generator: mask_tokens(row, objective, vocab_size - 1, tokens, generator)
        case SpanCorruption():
            lengths = data.sequence_length, objective.target_length(data.sequence_length)
            return partial(_corrupt_spans, objective, lengths, vocab_size - 1, start_token)
    return None


def _corrupt_spans(
    c: SpanCorruption, lengths: tuple[int, int], first_sentinel: int, start_token: int, row: Row, generator: np.random.Generator
) -> Row:
    text = row["tokens"][row["segments"] != 0]
    source, target = cut_spans(text, noise_mask(len(text), c, generator), first_sentinel)
    return source_target_row(source, target, *lengths, start_token)
