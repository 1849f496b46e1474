"""Rows of pairs and of labelled texts, random access."""

import numpy as np
from jaxtyping import Int32, Int64

from jax_transformer.data.packing import Row, TokenFile, best_fit, checked, text_row


class Documents:
    """The documents of a token file."""

    def __init__(self, tokens: TokenFile, ends: Int64[np.ndarray, " documents"]) -> None:
        self._tokens = tokens
        self._ends = ends
        self.lengths = np.diff(ends, prepend=0)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Int32[np.ndarray, " length"]:
        end = int(self._ends[index])
        return self._tokens.read(end - int(self.lengths[index]), end)


class LabelledRows:
    """A labelled text a row: ``tokens`` and ``segments``, cut or padded to the length, and ``label``."""

    def __init__(self, texts: Documents, labels: Int32[np.ndarray, " documents"], length: int) -> None:
        self._texts = texts
        self._labels = labels
        self._length = length

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: int) -> Row:
        index = checked(index, len(self))
        row = text_row([self._texts[index][: self._length]], self._length)
        return row | {"label": np.asarray(self._labels[index], np.int32)}


class SourceTargetRows:
    """A pair a row, for an encoder-decoder: see ``source_target_row``."""

    def __init__(self, texts: Documents, source_length: int, target_length: int, start_token: int) -> None:
        """``texts``: the source of pair i is document ``2 i``, its target the one after."""
        self._texts = texts
        self._lengths = source_length, target_length
        self._start_token = start_token

    def __len__(self) -> int:
        return len(self._texts) // 2

    def __getitem__(self, index: int) -> Row:
        index = checked(index, len(self))
        source, target = self._texts[2 * index], self._texts[2 * index + 1]
        return source_target_row(source, target, *self._lengths, self._start_token)


class PromptRows:
    """Pairs for a decoder, one a row or, if ``packed``, as many as fit: each pair is a segment, its source before its target.

    ``weights`` are 1 for the tokens of targets, so that only they are learned, or 1 everywhere. A pair that is too long for a
    row loses the beginning of its source, and the end of a target that would leave the source no token.
    """

    def __init__(self, texts: Documents, sequence_length: int, packed: bool, on_target: bool) -> None:
        self._texts = texts
        self._size = sequence_length + 1
        self._source_weight = int(not on_target)
        sources, targets = texts.lengths.reshape(-1, 2).T
        self._targets = np.minimum(targets, sequence_length)
        self._sources = np.minimum(sources, self._size - self._targets)
        count = len(sources)
        rows = best_fit(self._sources + self._targets, self._size) if packed else np.arange(count)
        self._order = np.argsort(rows, kind="stable")
        self._first = np.concatenate([[0], np.cumsum(np.bincount(rows))]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._first) - 1

    def __getitem__(self, index: int) -> Row:
        index = checked(index, len(self))
        pairs = [self._pair(int(pair)) for pair in self._order[self._first[index] : self._first[index + 1]]]
        row = text_row([np.concatenate(pair) for pair in pairs], self._size)
        weights = [np.repeat([self._source_weight, 1], [len(source), len(target)]) for source, target in pairs]
        return row | {"weights": text_row(weights, self._size)["tokens"]}

    def _pair(self, pair: int) -> tuple[Int32[np.ndarray, " source"], Int32[np.ndarray, " target"]]:
        source, target = self._texts[2 * pair], self._texts[2 * pair + 1]
        return source[len(source) - self._sources[pair] :], target[: self._targets[pair]]


def source_target_row(
    source: Int32[np.ndarray, " source"],
    target: Int32[np.ndarray, " target"],
    source_length: int,
    target_length: int,
    start_token: int,
) -> Row:
    """``source`` and ``source_segments`` of ``source_length``; ``tokens`` and ``segments`` of ``target_length + 1``, the first
    the start token, so that position t predicts position t + 1. What is longer is cut at its end.
    """
    read = text_row([source[:source_length]], source_length)
    written = text_row([np.concatenate([[start_token], target[:target_length]])], target_length + 1)
    return {"source": read["tokens"], "source_segments": read["segments"], **written}
