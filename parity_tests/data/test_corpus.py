"""A corpus from text to rows: nothing lost, nothing leaked, nothing half-written used, every misfit refused."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jax_transformer.config import (
    BpeTokenizer,
    JsonLines,
    TextFiles,
    TokenizerFile,
)
from jax_transformer.data import corpus as corpus_module
from jax_transformer.data.cache import MANIFEST
from jax_transformer.data.corpus import open_corpus
from jax_transformer.data.split import pieces, survey
from parity_tests.data.corpora import TOKENIZERS, VOCABULARY, config, folders, prose, texts


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda spec: spec.kind)
def test_both_sides_hold_exactly_their_text(tmp_path: Path, tokenizer: object) -> None:
    source = prose(tmp_path / "a.txt")
    data = config(source, tokenizer=tokenizer)
    corpus = open_corpus(data, tmp_path / "cache", VOCABULARY)
    split = survey(source, data.validation_fraction, data.seed)
    wanted = {"train": "", "validation": ""}
    for piece in pieces(source):
        end = "<eos>" if piece.last and corpus.tokenizer.eos_id is not None else ""
        wanted[split.side(piece.digest())] += piece.text + end
    assert texts(corpus, corpus.train) == wanted["train"]
    assert texts(corpus, corpus.validation) == wanted["validation"]


def test_documents_end_with_eos_and_stay_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(f'{{"text": "document {number:04d}"}}\n' for number in range(400)))
    data = config(JsonLines(paths=(str(file),)), packing="documents", sequence_length=64)
    corpus = open_corpus(data, tmp_path / "cache", VOCABULARY)
    found = []
    for rows in (corpus.train, corpus.validation):
        for index in range(len(rows)):
            row = rows[index]
            found += [row["tokens"][row["segments"] == part].tolist() for part in range(1, row["segments"].max() + 1)]
    assert all(document.pop() == corpus.tokenizer.eos_id for document in found)
    assert sorted(map(corpus.tokenizer.decode, found)) == [f"document {number:04d}" for number in range(400)]


def test_a_document_is_cut_where_its_middle_is_validation(tmp_path: Path) -> None:
    source = prose(tmp_path / "a.txt")
    data = config(source, packing="documents", sequence_length=2048, validation_fraction=0.3)
    corpus = open_corpus(data, tmp_path / "cache", VOCABULARY)
    text = "".join(piece.text for piece in pieces(source)) + "<eos>"
    for rows in (corpus.train, corpus.validation):
        for index in range(len(rows)):
            row = rows[index]
            for part in range(1, row["segments"].max() + 1):
                assert corpus.tokenizer.decode(row["tokens"][row["segments"] == part]).strip("\ufffd") in text


def test_bpe_learns_from_the_training_side_only(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    words = [f"{'qxzj'[number % 4] * 6} {number}" for number in range(400)]
    file.write_text("".join(f'{{"text": "{word}"}}\n' for word in words))
    data = config(JsonLines(paths=(str(file),)), tokenizer=BpeTokenizer(vocab_size=300), validation_fraction=0.3)
    seen = list(corpus_module._training_texts(data, survey(data.source, 0.3, 0)))
    corpus = open_corpus(data, tmp_path / "cache", VOCABULARY)
    assert 200 < len(seen) < 350
    held_out = texts(corpus, corpus.validation)
    assert not any(f"{text}<eos>" in held_out for text in seen)


def test_a_cached_corpus_is_not_tokenised_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = config(prose(tmp_path / "a.txt"))
    first = open_corpus(data, tmp_path / "cache", VOCABULARY)
    monkeypatch.setattr(corpus_module, "_tokenise", None)
    longer = data.model_copy(update={"sequence_length": 32, "packing": "documents"})
    assert open_corpus(data, tmp_path / "cache", VOCABULARY).fingerprint == first.fingerprint
    open_corpus(longer, tmp_path / "cache", VOCABULARY)


def test_the_fingerprint_tells_what_decides_the_batches(tmp_path: Path) -> None:
    source = prose(tmp_path / "a.txt")
    data = config(source)
    changes: list[dict[str, object]] = [
        {},
        {"seed": 1},
        {"validation_fraction": 0.2},
        {"sequence_length": 17},
        {"packing": "documents"},
        {"tokenizer": BpeTokenizer(vocab_size=300)},
        {"source": prose(tmp_path / "b.txt", lines=3001)},
    ]
    variants = [data.model_copy(update=change) for change in changes]
    prints = [open_corpus(each, tmp_path / "cache", VOCABULARY).fingerprint for each in variants]
    assert len(set(prints)) == len(prints)
    assert [open_corpus(each, tmp_path / "elsewhere", VOCABULARY).fingerprint for each in variants] == prints
    os.rename(tmp_path / "a.txt", tmp_path / "moved.txt")
    moved = data.model_copy(update={"source": TextFiles(paths=(str(tmp_path / "moved.txt"),))})
    assert open_corpus(moved, tmp_path / "cache", VOCABULARY).fingerprint == prints[0]


def test_a_changed_tokenizer_file_makes_another_corpus(tmp_path: Path) -> None:
    source = prose(tmp_path / "a.txt")
    trained = open_corpus(config(source, tokenizer=BpeTokenizer(vocab_size=300)), tmp_path / "cache", VOCABULARY)
    data = config(source, tokenizer=TokenizerFile(path=str(trained.tokenizer.save(tmp_path / "file"))))
    first = open_corpus(data, tmp_path / "cache", VOCABULARY)
    assert texts(first, first.train) == texts(trained, trained.train)
    other = open_corpus(config(source, tokenizer=BpeTokenizer(vocab_size=400)), tmp_path / "cache", VOCABULARY)
    other.tokenizer.save(tmp_path / "file")
    assert open_corpus(data, tmp_path / "cache", VOCABULARY).fingerprint != first.fingerprint


def test_a_damaged_cache_is_built_again(tmp_path: Path) -> None:
    data = config(prose(tmp_path / "a.txt"))
    cache = tmp_path / "cache"
    first = open_corpus(data, cache, VOCABULARY)
    (folder,) = folders(cache)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, content in whole.items():
        flipped = bytes([content[0] ^ 1]) + content[1:]
        for damage in (flipped, content[:-1], b"", None):
            path = folder / name
            path.unlink() if damage is None else path.write_bytes(damage)
            assert open_corpus(data, cache, VOCABULARY).fingerprint == first.fingerprint
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


@pytest.mark.fault
def test_kill_9_leaves_nothing_half_written_in_use(tmp_path: Path, rng: np.random.Generator) -> None:
    data = config(prose(tmp_path / "a.txt"), tokenizer=BpeTokenizer(vocab_size=400))
    reference = open_corpus(data, tmp_path / "reference", VOCABULARY)
    (expected,) = folders(tmp_path / "reference")
    whole = {path.name: path.read_bytes() for path in expected.iterdir()}
    cache = tmp_path / "cache"
    program = (
        "import shutil, sys\nfrom pathlib import Path\n"
        "from jax_transformer.config import Data\nfrom jax_transformer.data.corpus import open_corpus\n"
        "data, cache = Data.model_validate_json(sys.argv[1]), Path(sys.argv[2])\n"
        f"folder = cache / {expected.name!r}\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        f"    open_corpus(data, cache, {VOCABULARY})\n"
        f"    (folder / {MANIFEST!r}).unlink()\n    shutil.rmtree(folder)\n"
    )
    for _ in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", program, data.model_dump_json(), str(cache)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        with child.stdout:
            child.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.4)))
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
        if (cache / expected.name / MANIFEST).exists():
            assert {path.name: path.read_bytes() for path in (cache / expected.name).iterdir()} == whole
    assert open_corpus(data, cache, VOCABULARY).fingerprint == reference.fingerprint
    assert sorted(path.name for path in cache.iterdir()) == [expected.name, f"{expected.name}.lock"]


@pytest.mark.fault
def test_builders_at_the_same_time_agree(tmp_path: Path) -> None:
    data = config(prose(tmp_path / "a.txt"), tokenizer=BpeTokenizer(vocab_size=400))
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from jax_transformer.config import Data\nfrom jax_transformer.data.corpus import open_corpus\n"
        f"print(open_corpus(Data.model_validate_json(sys.argv[1]), Path(sys.argv[2]), {VOCABULARY}).fingerprint)"
    )
    arguments = [sys.executable, "-c", program, data.model_dump_json(), str(tmp_path / "cache")]
    children = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [child.communicate()[0].strip() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert outputs == [open_corpus(data, tmp_path / "alone", VOCABULARY).fingerprint] * 3
    assert len(list((tmp_path / "cache").iterdir())) == 2
