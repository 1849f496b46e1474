"""Batches: an endless shuffled stream for training that can be resumed, and one ordered pass for validation."""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Self

import grain
import numpy as np
from jaxtyping import Int32

from jax_transformer.config.errors import DataError
from jax_transformer.data.corpus import Corpus
from jax_transformer.data.noise import TRAINING, Corrupt, row_generator
from jax_transformer.data.packing import Row, Rows

Batch = dict[str, Int32[np.ndarray, "rows length"] | Int32[np.ndarray, " rows"]]
"""The arrays of this process's rows, stacked, by name."""

PREFETCHED_BATCHES = 4


class TrainLoader:
    """Endless batches: rows in a new order each epoch, batches that run across the end of an epoch.

    Process ``p`` of ``n`` holds rows ``p, p + n, ...`` of each global batch, so the processes together hold it exactly once,
    and a position saved with one number of processes resumes with another.
    """

    def __init__(
        self,
        corpus: Corpus,
        batch_size: int,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
        corrupt: Corrupt | None = None,
    ) -> None:
        """``batch_size`` counts rows over all processes; ``corrupt`` draws for each row by its number over all of them.

        Raises:
            DataError: fewer rows than one batch, or a batch that does not divide over the processes.
        """
        rows = corpus.train
        if len(rows) < batch_size:
            raise DataError(
                f"the train split has {len(rows)} rows, fewer than train.batch_size={batch_size}: add text, or lower "
                "train.batch_size or data.sequence_length"
            )
        local = _local_size(batch_size, process_count)
        self._batch_size = batch_size
        shuffled = grain.MapDataset.source(rows).seed(seed).shuffle().repeat()
        if corrupt is not None:
            shuffled = shuffled.map_with_index(partial(_corrupted, corrupt, seed))
        batches = shuffled[process_index::process_count].batch(local)
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=PREFETCHED_BATCHES)
        self._batches = iter(batches.to_iter_dataset(options))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    def position(self) -> dict[str, int]:
        """Where the next batch starts, in rows since the beginning over all processes; fit for JSON."""
        return {"rows": self._batches.get_state()["next_index"] * self._batch_size}

    def restore(self, position: Mapping[str, int]) -> None:
        """Continue with the batch that would have come after ``position()``.

        Raises:
            DataError: not a position, or one between two batches of this size.
        """
        rows = position.get("rows")
        if type(rows) is not int or rows < 0 or set(position) != {"rows"}:
            raise DataError(f"{dict(position)} is not a data position; wanted {{'rows': a count}}")
        if rows % self._batch_size:
            raise DataError(
                f"the data position of {rows} rows is not a multiple of train.batch_size={self._batch_size}: resume with "
                "the batch size the run was saved with"
            )
        self._batches.set_state({"next_index": rows // self._batch_size})


def validation_batches(
    corpus: Corpus, batch_size: int, process_index: int = 0, process_count: int = 1, limit: int | None = None
) -> Iterator[Batch]:
    """The validation rows once and in order, at most ``limit`` batches; the last batch is filled up with padding (segment 0).

    Process ``p`` holds the ``p``-th contiguous part of each global batch; all processes see the same number of batches.

    Raises:
        DataError: a batch that does not divide over the processes.
    """
    rows = corpus.validation
    local = _local_size(batch_size, process_count)
    count = math.ceil(len(rows) / batch_size)
    for batch in range(count if limit is None else min(count, limit)):
        start = batch * batch_size + process_index * local
        yield _padded_batch(rows, range(start, start + local))


def _corrupted(corrupt: Corrupt, seed: int, number: int, row: Row) -> Row:
    return corrupt(row, row_generator(seed, TRAINING, number))


def _padded_batch(rows: Rows, indices: range) -> Batch:
    padding = {name: np.zeros_like(value) for name, value in rows[0].items()}
    picked = [rows[index] if index < len(rows) else padding for index in indices]
    return {name: np.stack([row[name] for row in picked]) for name in padding}


def _local_size(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise DataError(f"batch size {batch_size} does not divide over {process_count} processes; choose a multiple")
    return batch_size // process_count
