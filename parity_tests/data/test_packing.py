"""Packing: every token is a target exactly once, and documents never see one another."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_transformer.data.packing import DocumentRows, Rows, StreamRows, TokenFile

LENGTHS = st.lists(st.integers(1, 40), max_size=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens")


def token_file(folder: Path, count: int, dtype: str = "<u2") -> TokenFile:
    """Tokens 1, 2, 3, ...: a token's value tells its place."""
    path = folder / "tokens"
    path.write_bytes(np.arange(1, count + 1).astype(dtype).tobytes())
    return TokenFile(path, dtype)


def pairs(rows: Rows) -> list[tuple[int, int]]:
    """Each (token, target) pair that counts."""
    found = []
    for index in range(len(rows)):
        tokens, segments = rows[index]["tokens"], rows[index]["segments"]
        counts = (segments[1:] == segments[:-1]) & (segments[1:] != 0)
        found += list(zip(tokens[:-1][counts].tolist(), tokens[1:][counts].tolist(), strict=True))
    return found


@given(count=st.integers(0, 200), length=st.integers(2, 30))
def test_stream_rows_predict_every_token_once_and_in_order(folder: Path, count: int, length: int) -> None:
    rows = StreamRows(token_file(folder, count), length)
    assert pairs(rows) == [(token, token + 1) for token in range(1, count)]
    assert len(rows) == -(-max(count - 1, 0) // length)


@given(lengths=LENGTHS, length=st.integers(2, 30))
def test_document_rows_predict_every_token_once_within_its_document(folder: Path, lengths: list[int], length: int) -> None:
    ends = np.cumsum(np.array(lengths, np.int64))
    rows = DocumentRows(token_file(folder, sum(lengths)), ends, length)
    wanted = [
        (token, token + 1) for end, size in zip(ends.tolist(), lengths, strict=True) for token in range(end - size + 1, end)
    ]
    assert sorted(pairs(rows)) == wanted


@given(lengths=LENGTHS, length=st.integers(2, 30))
def test_segments_count_up_and_padding_is_last(folder: Path, lengths: list[int], length: int) -> None:
    ends = np.cumsum(np.array(lengths, np.int64))
    rows = DocumentRows(token_file(folder, sum(lengths)), ends, length)
    for index in range(len(rows)):
        row = rows[index]
        segments = row["segments"]
        assert segments.shape == row["tokens"].shape == (length + 1,)
        assert segments.dtype == row["tokens"].dtype == np.int32
        used = segments[segments > 0]
        assert np.array_equal(segments[: len(used)], used), "padding only at the end"
        assert set(np.diff(used).tolist()) <= {0, 1}
        assert used[0] == 1
        assert not row["tokens"][segments == 0].any()


def test_document_rows_are_full_and_in_corpus_order(folder: Path, rng: np.random.Generator) -> None:
    lengths = rng.integers(2, 80, size=2000)
    rows = DocumentRows(token_file(folder, int(lengths.sum()), "<u4"), np.cumsum(lengths), 64)
    used = [rows[index]["tokens"][rows[index]["segments"] > 0] for index in range(len(rows))]
    assert np.mean([len(tokens) / 65 for tokens in used]) > 0.97
    assert all((np.diff(tokens) > 0).all() for tokens in used)


def test_rows_beyond_the_end_are_refused(folder: Path) -> None:
    for rows in (StreamRows(token_file(folder, 20), 4), DocumentRows(token_file(folder, 20), np.array([9, 20]), 4)):
        rows[len(rows) - 1]
        for index in (len(rows), -1):
            with pytest.raises(IndexError, match=f"row {index} of {len(rows)}"):
                rows[index]


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_a_pickled_token_file_holds_no_tokens(folder: Path, dtype: str) -> None:
    tokens = token_file(folder, 50_000, dtype)
    first = tokens.read(0, 10)
    copied = pickle.dumps(tokens)
    assert len(copied) < 1000
    assert np.array_equal(pickle.loads(copied).read(0, 10), first)
    assert np.array_equal(tokens.read(49_990, 60_000), np.arange(49_991, 50_001))
