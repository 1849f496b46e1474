"""The loader: shards join to the global batch, a position resumes exactly, an epoch holds each row once."""

import itertools
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jax_transformer.config.errors import DataError
from jax_transformer.data.loader import Batch, TrainLoader, validation_batches
from jax_transformer.data.packing import StreamRows, TokenFile

LENGTH = 4
ROWS = 21


@pytest.fixture
def corpus(tmp_path: Path) -> SimpleNamespace:
    """Row ``i`` starts with token ``i * LENGTH``, which names it."""
    path = tmp_path / "tokens"
    path.write_bytes(np.arange(ROWS * LENGTH + 1).astype("<u2").tobytes())
    rows = StreamRows(TokenFile(path, "<u2"), LENGTH)
    return SimpleNamespace(train=rows, validation=rows)


def names(batch: Batch) -> list[int]:
    return (batch["tokens"][:, 0] // LENGTH).tolist()


def take(loader: TrainLoader, count: int) -> list[list[int]]:
    return [names(batch) for batch in itertools.islice(loader, count)]


def test_batches_have_the_agreed_form(corpus: SimpleNamespace) -> None:
    batch = next(TrainLoader(corpus, 6, seed=0))
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == {
        "tokens": ((6, LENGTH + 1), "int32"),
        "segments": ((6, LENGTH + 1), "int32"),
    }


def test_an_epoch_holds_each_row_once_in_a_new_order(corpus: SimpleNamespace) -> None:
    rows = list(itertools.chain.from_iterable(take(TrainLoader(corpus, 6, seed=0), 14)))  # 84 rows, 4 epochs
    epochs = [rows[start : start + ROWS] for start in range(0, 4 * ROWS, ROWS)]
    assert all(sorted(epoch) == list(range(ROWS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, range(ROWS)]}) == 5


def test_the_seed_decides_the_order(corpus: SimpleNamespace) -> None:
    assert take(TrainLoader(corpus, 6, seed=3), 5) == take(TrainLoader(corpus, 6, seed=3), 5)
    assert take(TrainLoader(corpus, 6, seed=3), 5) != take(TrainLoader(corpus, 6, seed=4), 5)


@pytest.mark.parametrize("processes", [2, 3])
def test_shards_join_to_the_global_batch(corpus: SimpleNamespace, processes: int) -> None:
    whole = TrainLoader(corpus, 6, seed=1)
    shards = [TrainLoader(corpus, 6, 1, index, processes) for index in range(processes)]
    for _ in range(9):
        parts = [names(next(shard)) for shard in shards]
        assert {len(part) for part in parts} == {6 // processes}
        assert Counter(itertools.chain(*parts)) == Counter(names(next(whole)))


@pytest.mark.parametrize("done", [0, 1, 3, 8])
def test_a_restored_position_gives_exactly_the_next_batches(corpus: SimpleNamespace, done: int) -> None:
    loader = TrainLoader(corpus, 6, seed=5)
    take(loader, done)
    position = json.loads(json.dumps(loader.position()))
    assert position == {"rows": done * 6}
    expected = take(loader, 6)
    fresh = TrainLoader(corpus, 6, seed=5)
    take(fresh, 2)
    fresh.restore(position)
    assert fresh.position() == position
    assert take(fresh, 6) == expected
    loader.restore(position)
    assert take(loader, 6) == expected, "a loader in use can go back"


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_a_position_does_not_depend_on_the_number_of_processes(corpus: SimpleNamespace, before: int, after: int) -> None:
    loader = TrainLoader(corpus, 6, 5, process_index=before - 1, process_count=before)
    take(loader, 4)
    resumed = [TrainLoader(corpus, 6, 5, index, after) for index in range(after)]
    for shard in resumed:
        shard.restore(loader.position())
    whole = take(TrainLoader(corpus, 6, seed=5), 8)[4:]
    for expected in whole:
        assert Counter(itertools.chain(*(names(next(shard)) for shard in resumed))) == Counter(expected)


@pytest.mark.parametrize(
    ("position", "message"),
    [
        ({}, "not a data position"),
        ({"rows": -6}, "not a data position"),
        ({"rows": 6.0}, "not a data position"),
        ({"rows": True}, "not a data position"),
        ({"rows": 6, "next_index": 1}, "not a data position"),
        ({"rows": 7}, "7 rows is not a multiple of train.batch_size=6"),
    ],
)
def test_a_wrong_position_is_refused(corpus: SimpleNamespace, position: dict[str, int], message: str) -> None:
    loader = TrainLoader(corpus, 6, seed=0)
    with pytest.raises(DataError, match=message):
        loader.restore(position)


def test_a_batch_that_cannot_be_made_is_refused(corpus: SimpleNamespace) -> None:
    TrainLoader(corpus, ROWS, seed=0)
    with pytest.raises(DataError, match=f"the train split has {ROWS} rows, fewer than train.batch_size={ROWS + 1}"):
        TrainLoader(corpus, ROWS + 1, seed=0)
    with pytest.raises(DataError, match="batch size 6 does not divide over 4 processes"):
        TrainLoader(corpus, 6, 0, 0, 4)
    with pytest.raises(DataError, match="does not divide"):
        next(validation_batches(corpus, 6, 0, 4))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("batch_size", [2, 6, 30])
def test_validation_counts_every_row_once(corpus: SimpleNamespace, processes: int, batch_size: int) -> None:
    shards = [list(validation_batches(corpus, batch_size, index, processes)) for index in range(processes)]
    assert {len(shard) for shard in shards} == {-(-ROWS // batch_size)}
    rows = []
    for parts in zip(*shards, strict=True):
        for part in parts:
            assert part["tokens"].shape == part["segments"].shape == (batch_size // processes, LENGTH + 1)
            real = part["segments"].any(axis=1)
            assert not part["tokens"][~real].any()
            rows += (part["tokens"][real, 0] // LENGTH).tolist()
    assert rows == list(range(ROWS)), "in order"


def test_validation_stops_at_the_limit(corpus: SimpleNamespace) -> None:
    assert [len(list(validation_batches(corpus, 6, limit=limit))) for limit in (1, 4, 9, None)] == [1, 4, 4, 4]
