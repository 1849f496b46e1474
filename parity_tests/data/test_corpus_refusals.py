"""What a corpus refuses, and what it says."""

import errno
import os
from pathlib import Path

import pytest

from jax_transformer.config import (
    CharTokenizer,
    JsonLines,
    TokenizerFile,
)
from jax_transformer.config.errors import DataError
from jax_transformer.data import cache as cache_module
from jax_transformer.data import corpus as corpus_module
from jax_transformer.data.corpus import open_corpus
from jax_transformer.data.split import survey
from parity_tests.data.corpora import VOCABULARY, config, folders, prose


def test_vocabulary_and_ids_are_checked_before_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = config(prose(tmp_path / "a.txt"))
    for cached in (False, True):
        with pytest.raises(DataError, match=r"largest token id is 258 but model\.vocab_size=258: .* at least 259"):
            open_corpus(data, tmp_path / "cache", 258)
        assert bool(folders(tmp_path / "cache")) == cached
        open_corpus(data, tmp_path / "cache", 259)
    monkeypatch.setattr(corpus_module, "_check_vocabulary", lambda *_: None)
    with pytest.raises(DataError, match=r"token id 195 at position \d+ is outside 0\.\.194"):
        open_corpus(data, tmp_path / "other", 195)


def test_a_side_too_small_for_a_row_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(f'{{"text": "{number:02d}"}}\n' for number in range(50)))
    for packing in ("stream", "documents"):
        data = config(JsonLines(paths=(str(file),)), packing=packing, sequence_length=40, validation_fraction=0.1)
        with pytest.raises(DataError, match=r"the validation split has \d+ tokens.* = 41: .*data\.validation_fraction=0\.1"):
            open_corpus(data, tmp_path / "cache", VOCABULARY)
        with pytest.raises(DataError, match=r"the train split has \d+ tokens.* = 301: add text, or shorten"):
            open_corpus(data.model_copy(update={"sequence_length": 300}), tmp_path / "cache", VOCABULARY)


def test_documents_without_a_target_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(f'{{"text": "{letter}"}}\n' for letter in "abcdefghijklmnopqrstuvwxyz"))
    data = config(JsonLines(paths=(str(file),)), packing="documents", sequence_length=2, tokenizer=CharTokenizer())
    with pytest.raises(DataError, match="the train split"):
        open_corpus(data, tmp_path / "cache", VOCABULARY)


def test_text_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = prose(tmp_path / "a.txt")

    def survey_then_change(*arguments: object) -> object:
        split = survey(*arguments)
        prose(tmp_path / "a.txt", lines=3001)
        return split

    monkeypatch.setattr(corpus_module, "survey", survey_then_change)
    with pytest.raises(DataError, match="changed while it was being read"):
        open_corpus(config(source), tmp_path / "cache", VOCABULARY)
    assert folders(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = config(prose(tmp_path / "a.txt"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write or read the token cache: (Not a directory|File exists)"):
        open_corpus(data, tmp_path / "file", VOCABULARY)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache_module, "_flush", full)
    with pytest.raises(DataError, match="No space left on device"):
        open_corpus(data, tmp_path / "cache", VOCABULARY)
    assert folders(tmp_path / "cache") == []


def test_an_unknown_character_is_named_while_tokenising(tmp_path: Path) -> None:
    ascii_only = tmp_path / "ascii.jsonl"
    ascii_only.write_text('{"text": "the cat sat on the mat"}\n{"text": "and so did the other cat"}\n')
    spec = JsonLines(paths=(str(ascii_only),))
    corpus = open_corpus(config(spec, tokenizer=CharTokenizer(), sequence_length=4), tmp_path / "cache", VOCABULARY)
    path = corpus.tokenizer.save(tmp_path / "char")
    data = config(prose(tmp_path / "a.txt"), tokenizer=TokenizerFile(path=str(path)))
    with pytest.raises(DataError, match=r"character '.' \(U\+00"):
        open_corpus(data, tmp_path / "other", VOCABULARY)
    assert folders(tmp_path / "other") == []
