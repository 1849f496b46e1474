"""Rows of fixed length over a token file, random access."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Int32, Int64

Row = dict[str, Int32[np.ndarray, " length"] | Int32[np.ndarray, ""]]
"""Named arrays of one row. A row of text has ``tokens`` and ``segments``; segment 0 is padding."""


class Rows(Protocol):
    """A random-access source of rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Row: ...


class TokenFile:
    """Unsigned integers on disk, mapped into memory on first use in each process."""

    def __init__(self, path: Path, dtype: str) -> None:
        self._path = path
        self._dtype = np.dtype(dtype)
        self._count = path.stat().st_size // self._dtype.itemsize
        self._mapped: np.ndarray | None = None

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> Int32[np.ndarray, " length"]:
        """Tokens ``start`` to ``stop``, the latter excluded."""
        if self._mapped is None:
            # An empty file cannot be mapped.
            self._mapped = np.memmap(self._path, self._dtype, "r") if self._count else np.zeros(0, self._dtype)
        return self._mapped[start:stop].astype(np.int32)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_mapped": None}  # pickling a map would copy the whole file


class StreamRows:
    """One stream of tokens cut into rows.

    Row ``i`` holds tokens ``i * T`` to ``(i + 1) * T``, both included, so every token but the first is a target exactly once;
    with an ``overlap`` of 0 the latter is left out, so every token is in exactly one row. The last row is padded.
    """

    def __init__(self, tokens: TokenFile, sequence_length: int, overlap: int = 1) -> None:
        self._tokens = tokens
        self._length = sequence_length
        self._overlap = overlap

    def __len__(self) -> int:
        return -(-max(len(self._tokens) - self._overlap, 0) // self._length)

    def __getitem__(self, index: int) -> Row:
        start = checked(index, len(self)) * self._length
        size = self._length + self._overlap
        return text_row([self._tokens.read(start, start + size)], size)


class DocumentRows:
    """Documents packed into rows, each its own segment.

    A document longer than a row is cut into chunks that share one token, so every token but a document's first is a target
    exactly once; with an ``overlap`` of 0 they share none. Chunks are packed best-fit in order of decreasing length; a row
    lists its chunks in corpus order.
    """

    def __init__(
        self, tokens: TokenFile, ends: Int64[np.ndarray, " documents"], sequence_length: int, overlap: int = 1
    ) -> None:
        self._tokens = tokens
        self._size = sequence_length + overlap
        starts, lengths = _chunks(ends, sequence_length, overlap)
        rows = best_fit(lengths, self._size)
        order = np.argsort(rows, kind="stable")
        self._starts, self._lengths = starts[order], lengths[order]
        self._first = np.concatenate([[0], np.cumsum(np.bincount(rows))]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._first) - 1

    def __getitem__(self, index: int) -> Row:
        index = checked(index, len(self))
        chunks = range(self._first[index], self._first[index + 1])
        parts = [self._tokens.read(self._starts[i], self._starts[i] + self._lengths[i]) for i in chunks]
        return text_row(parts, self._size)


def text_row(parts: Sequence[Int32[np.ndarray, " part"]], length: int) -> Row:
    """``parts`` side by side in one row, numbered from segment 1, padded to ``length`` tokens."""
    tokens = np.zeros(length, np.int32)
    segments = np.zeros(length, np.int32)
    start = 0
    for segment, part in enumerate(parts, 1):
        tokens[start : start + len(part)] = part
        segments[start : start + len(part)] = segment
        start += len(part)
    return {"tokens": tokens, "segments": segments}


def _chunks(ends: np.ndarray, length: int, overlap: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of each chunk of at most ``length + overlap`` tokens; a document of ``overlap`` tokens has none."""
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(ends) else np.zeros(0, np.int64)
    targets = np.maximum(ends - starts - overlap, 0)
    counts = -(-targets // length)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    chunk_targets = np.minimum(np.repeat(targets, counts) - within * length, length)
    return np.repeat(starts, counts) + within * length, chunk_targets + overlap


def best_fit(lengths: Int64[np.ndarray, " chunks"], capacity: int) -> Int64[np.ndarray, " chunks"]:
    """The row of each chunk: the fullest row it still fits in, longest chunk first."""
    rows = np.zeros(len(lengths), np.int64)
    spaces: list[int] = []  # distinct free spaces, sorted
    with_space: dict[int, list[int]] = {}
    count = 0
    for chunk in np.argsort(-lengths, kind="stable"):
        length = int(lengths[chunk])
        at = bisect_left(spaces, length)
        if at == len(spaces):
            row, space, count = count, capacity, count + 1
        else:
            space = spaces[at]
            row = with_space[space].pop()
            if not with_space[space]:
                del spaces[at]
        rows[chunk] = row
        space -= length
        if not with_space.setdefault(space, []):
            insort(spaces, space)
        with_space[space].append(row)
    return rows


def checked(index: int, count: int) -> int:
    """``index`` as an int; IndexError, which ends an iteration, where it is no row."""
    if not 0 <= index < count:
        raise IndexError(f"row {index} of {count}")
    return int(index)
