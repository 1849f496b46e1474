"""Rows of pairs and labelled texts: what they hold, what they cut, and what of them counts."""

import json
from pathlib import Path

import numpy as np
import pytest

from jax_transformer.config import (
    ByteTokenizer,
    CharTokenizer,
    Classification,
    Data,
    Labelled,
    NextToken,
    Pairs,
    SequenceToSequence,
)
from jax_transformer.data.corpus import Corpus, open_corpus

EOS = 258
ON_TARGET = NextToken(loss_on="target")


def corpus_of(folder: Path, objective: object, lengths: list[tuple[int, int]], **fields: object) -> Corpus:
    """Pair ``i`` is the letter of ``i`` in lower case, and in upper case, as often as ``lengths`` says."""
    lines = [
        {"source": chr(97 + index) * source, "target": chr(65 + index) * target}
        for index, (source, target) in enumerate(lengths)
    ]
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    source = Pairs(paths=(str(folder / "pairs.jsonl"),))
    data = Data(source=source, **({"tokenizer": ByteTokenizer(), "sequence_length": 8} | fields))
    return open_corpus(data, folder / "cache", 300, objective, 7)


def rows_of(corpus: Corpus) -> list[dict[str, np.ndarray]]:
    return [rows[index] for rows in (corpus.train, corpus.validation) for index in range(len(rows))]


def text(ids: np.ndarray) -> str:
    """Bytes as characters, the end of text as a full stop."""
    return "".join("." if token == EOS else chr(token) for token in ids.tolist())


def test_a_pair_for_an_encoder_decoder_is_read_on_one_side_and_written_on_the_other(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, SequenceToSequence(), [(3, 2), (12, 2), (3, 9)], target_length=5)
    found = set()
    for row in rows_of(corpus):
        assert {name: value.shape for name, value in row.items()} == {
            "source": (8,), "source_segments": (8,), "tokens": (6,), "segments": (6,),
        }  # fmt: skip
        assert row["tokens"][0] == 7
        source, target = row["source"][row["source_segments"] == 1], row["tokens"][row["segments"] == 1]
        assert not row["source"][len(source) :].any()
        assert not row["tokens"][len(target) :].any()
        found.add((text(source), text(target[1:])))
    assert found == {("aaa.", "AA."), ("bbbbbbbb", "BB."), ("ccc.", "CCCCC")}


@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_a_decoder_learns_the_target_and_its_end_only(tmp_path: Path, packing: str) -> None:
    lengths = [(1, 1), (2, 2), (20, 2), (3, 20), (2, 1), (1, 2), (1, 1)]
    corpus = corpus_of(tmp_path, ON_TARGET, lengths, packing=packing)
    found = []
    rows = rows_of(corpus)
    for row in rows:
        for segment in range(1, row["segments"].max() + 1):
            inside = row["segments"] == segment
            learned = row["weights"][inside] == 1
            found.append((text(row["tokens"][inside][~learned]), text(row["tokens"][inside][learned])))
        assert not row["weights"][row["segments"] == 0].any()
    wanted = [("a.", "A."), ("bb.", "BB."), ("ccccc.", "CC."), (".", "DDDDDDDD"), ("ee.", "E."), ("f.", "FF."), ("g.", "G.")]
    assert sorted(found) == sorted(wanted)
    assert len(rows) == 7 if packing == "stream" else len(rows) < 7
    everything = rows_of(corpus_of(tmp_path, NextToken(), lengths, packing=packing))
    for row, whole in zip(rows, everything, strict=True):
        np.testing.assert_array_equal(row["tokens"], whole["tokens"])
        np.testing.assert_array_equal(whole["weights"], whole["segments"] != 0)


def test_a_tokenizer_without_an_end_adds_none(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, ON_TARGET, [(3, 2), (1, 4)], tokenizer=CharTokenizer())
    decoded = {corpus.tokenizer.decode(row["tokens"][row["segments"] == 1]) for row in rows_of(corpus)}
    assert decoded == {"aaaAA", "bBBBB"}


def test_a_labelled_text_keeps_its_label(tmp_path: Path) -> None:
    lines = [{"text": f"{'xyz'[number % 3]} is text number {number}", "label": "xyz"[number % 3]} for number in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    source = Labelled(paths=(str(tmp_path / "a.jsonl"),), labels=("z", "x", "y"))
    data = Data(source=source, sequence_length=20, validation_fraction=0.3)
    corpus = open_corpus(data, tmp_path / "cache", 300, Classification())
    found = []
    for row in rows_of(corpus):
        assert {name: (value.shape, value.dtype.name) for name, value in row.items()} == {
            "tokens": ((20,), "int32"), "segments": ((20,), "int32"), "label": ((), "int32"),
        }  # fmt: skip
        words = text(row["tokens"][row["segments"] == 1])
        assert source.labels[row["label"]] == words[0]
        found.append(words)
    assert sorted(found) == sorted(f"{line['text']}."[:20] for line in lines)
    assert len(corpus.validation) > 5
    other = source.model_copy(update={"labels": ("x", "y", "z")})
    again = open_corpus(data.model_copy(update={"source": other}), tmp_path / "cache", 300, Classification())
    assert again.fingerprint != corpus.fingerprint


def test_the_fingerprint_tells_objectives_and_lengths_apart(tmp_path: Path) -> None:
    lengths = [(3, 2), (12, 2), (3, 9)]
    corpora = [
        corpus_of(tmp_path, objective, lengths, **fields)
        for objective, fields in (
            (NextToken(), {}), (ON_TARGET, {}), (SequenceToSequence(), {}), (SequenceToSequence(), {"target_length": 5}),
        )
    ]  # fmt: skip
    assert len({corpus.fingerprint for corpus in corpora}) == 4
