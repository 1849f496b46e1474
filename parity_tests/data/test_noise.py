"""What is drawn for a row depends on the seed and the row's number only: not on processes or resuming."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from jax_transformer.config import ByteTokenizer, CharTokenizer, Data, MaskedLm, Objective, SpanCorruption
from jax_transformer.config.errors import DataError
from jax_transformer.data.corpus import Corpus, open_corpus
from jax_transformer.data.loader import Batch, TrainLoader, validation_batches
from parity_tests.data.corpora import config, prose

VOCABULARY = 300
OBJECTIVES = [MaskedLm(), SpanCorruption()]


@pytest.fixture(params=OBJECTIVES, ids=lambda objective: objective.kind)
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Corpus:
    return opened(tmp_path, request.param)


def opened(folder: Path, objective: Objective, **fields: object) -> Corpus:
    data = config(prose(folder / "a.txt", lines=300), **{"sequence_length": 40, "validation_fraction": 0.3, **fields})
    return open_corpus(data, folder / "cache", VOCABULARY, objective, start_token=5)


def loader(corpus: Corpus, seed: int = 3, index: int = 0, count: int = 1) -> TrainLoader:
    return TrainLoader(corpus, 6, seed, index, count, corpus.corrupt)


def same(a: Batch, b: Batch) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_position_resumes_with_the_same_noise(corpus: Corpus) -> None:
    whole = list(itertools.islice(loader(corpus), 12))
    first = loader(corpus)
    assert all(same(next(first), batch) for batch in whole[:5])
    second = loader(corpus)
    second.restore(first.position())
    assert all(same(next(second), batch) for batch in whole[5:])
    assert not same(next(loader(corpus, seed=4)), whole[0])


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_together_hold_the_rows_of_one(corpus: Corpus, processes: int) -> None:
    shards = [loader(corpus, index=index, count=processes) for index in range(processes)]
    for batch in itertools.islice(loader(corpus), 4):
        parts = [next(shard) for shard in shards]
        for name, rows in batch.items():
            joined = np.stack([part[name] for part in parts], axis=1).reshape(rows.shape)
            np.testing.assert_array_equal(joined, rows)


def test_a_row_is_corrupted_anew_in_each_epoch(tmp_path: Path) -> None:
    corpus = opened(tmp_path, MaskedLm())
    batches = TrainLoader(corpus, len(corpus.train), 3, corrupt=corpus.corrupt)
    epochs = [next(batches) for _ in range(2)]
    first, second = (np.lexsort(epoch["targets"].T) for epoch in epochs)
    np.testing.assert_array_equal(epochs[0]["targets"][first], epochs[1]["targets"][second])
    differ = (epochs[0]["weights"][first] != epochs[1]["weights"][second]).mean(axis=1)
    assert np.median(differ) > 0.1


def test_validation_is_corrupted_once_for_all(corpus: Corpus) -> None:
    halves = [list(validation_batches(corpus, 6, index, 2)) for index in range(2)]
    for number, batch in enumerate(validation_batches(corpus, 6)):
        joined = {name: np.concatenate([half[number][name] for half in halves]) for name in batch}
        assert same(batch, joined)
    assert same(corpus.validation[1], corpus.validation[1])


def test_masked_rows_hold_every_token_once(tmp_path: Path) -> None:
    for packing in ("stream", "documents"):
        corpus = opened(tmp_path, MaskedLm(), packing=packing)
        plain = opened(tmp_path, SpanCorruption())
        rows = [corpus.train[index] for index in range(len(corpus.train))]
        assert rows[0]["tokens"].shape == (40,)
        texts = np.concatenate([row["tokens"][row["segments"] != 0] for row in rows])
        stream = [plain.train[index]["tokens"][plain.train[index]["segments"] != 0] for index in range(len(plain.train))]
        assert np.array_equal(np.sort(texts), np.sort(np.concatenate(stream)))
        if packing == "stream":
            np.testing.assert_array_equal(texts, np.concatenate(stream))


def test_span_rows_fill_their_lengths_with_ids_of_the_vocabulary(tmp_path: Path) -> None:
    c = SpanCorruption()
    corpus = opened(tmp_path, c)
    for index in range(len(corpus.validation)):
        row = corpus.validation[index]
        assert {name: len(value) for name, value in row.items()} == {
            "source": 40, "source_segments": 40, "tokens": c.target_length(40) + 1, "segments": c.target_length(40) + 1,
        }  # fmt: skip
        assert row["tokens"][0] == 5
        assert max(row["source"].max(), row["tokens"].max()) == VOCABULARY - 1
        if index < len(corpus.validation) - 1:
            assert row["source_segments"].all()
            assert row["segments"].all()


@pytest.mark.parametrize(("objective", "needed"), [(MaskedLm(), 260), (SpanCorruption(), 262)])
def test_a_vocabulary_without_room_for_the_special_ids_is_refused(tmp_path: Path, objective: Objective, needed: int) -> None:
    source = prose(tmp_path / "a.txt", lines=300)
    data = Data(source=source, tokenizer=ByteTokenizer(), sequence_length=40)
    open_corpus(data, tmp_path / "cache", needed, objective)
    with pytest.raises(DataError, match=rf"needs {needed - 259} more ids, but model.vocab_size={needed - 1}: .* {needed}"):
        open_corpus(data, tmp_path / "cache", needed - 1, objective)
    letters = data.model_copy(update={"tokenizer": CharTokenizer()})
    known = open_corpus(letters, tmp_path / "cache", VOCABULARY).tokenizer.vocab_size
    with pytest.raises(DataError, match=rf"more ids, but model.vocab_size={known}"):
        open_corpus(letters, tmp_path / "cache", known, objective)


def test_too_little_text_for_a_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the text that fits data.sequence_length=4000 = \d+: add text"):
        opened(tmp_path, SpanCorruption(mean_span_length=100.0), sequence_length=4000)
    with pytest.raises(DataError, match=r"too few for one row of data.sequence_length = 20000: add text"):
        opened(tmp_path, MaskedLm(), sequence_length=20000)
