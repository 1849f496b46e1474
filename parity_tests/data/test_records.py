"""Pairs and labelled texts: every line arrives, and every unusable one is refused by file, line and field."""

import json
from pathlib import Path

import pytest

from jax_transformer.config import Labelled, Pairs
from jax_transformer.config.errors import DataError
from jax_transformer.data.records import labelled, pairs
from jax_transformer.data.split import pieces, survey


def written(path: Path, *lines: object) -> str:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(path)


def test_both_forms_of_a_file_say_the_same(tmp_path: Path) -> None:
    one = written(tmp_path / "a.jsonl", {"id": 1, "en": 'a "b"', "de": "ü"}, "", {"en": "c", "de": "d", "id": 2})
    two = written(tmp_path / "a.tsv", "id\ten\tde", '1\ta "b"\tü', "", "2\tc\td\r")
    for path in (one, two):
        found = list(pairs(Pairs(paths=(path,), source_field="en", target_field="de")))
        assert found == [('a "b"', "ü"), ("c", "d")]


def test_labels_become_their_numbers(tmp_path: Path) -> None:
    one = written(tmp_path / "a.jsonl", {"text": "x", "label": "good"}, {"text": "y", "label": "bad"})
    assert list(labelled(Labelled(paths=(one,), labels=("bad", "good")))) == [("x", 1), ("y", 0)]
    numbers = written(tmp_path / "b.jsonl", {"text": "x", "label": 1}, {"text": "y", "label": 0})
    assert list(labelled(Labelled(paths=(numbers,), labels=("0", "1")))) == [("x", 1), ("y", 0)]


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.jsonl", ['{"source": "x", "target"'], "a.jsonl:2: not a line of JSON"),
        (
            "a.jsonl",
            [{"source": "x"}],
            r"a.jsonl:2: no field 'target'; the line has \['source'\]: set data.source.target_field",
        ),
        ("a.jsonl", [{"target": "x"}], r"no field 'source'; .*: set data.source.source_field"),
        ("a.jsonl", [{"source": "x", "target": 3}], "field 'target' is a JSON int, wanted a string"),
        ("a.jsonl", [{"source": "", "target": "x"}], "a.jsonl:2: field 'source' is empty"),
        ("a.jsonl", [{"source": "x", "target": ""}], "a.jsonl:2: field 'target' is empty"),
        ("a.tsv", ["a\tb\tc"], r"a.tsv:3: 3 columns, wanted 2, those of the header: \['source', 'target'\]"),
        ("a.tsv", ["a"], "a.tsv:3: 1 columns, wanted 2"),
        ("a.tsv", ["a\t"], "a.tsv:3: field 'target' is empty"),
        ("a.txt", ["a\tb"], "a.txt: wanted a file that ends in .jsonl or .tsv"),
    ],
)
def test_a_bad_line_of_pairs_is_refused(tmp_path: Path, name: str, lines: list[object], message: str) -> None:
    header = ["source\ttarget", "x\ty"] if name.endswith(".tsv") else [{"source": "x", "target": "y"}]
    with pytest.raises(DataError, match=message):
        list(pairs(Pairs(paths=(written(tmp_path / name, *header, *lines),))))


def test_a_header_is_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.tsv:1: the header .* names a column twice"):
        list(pairs(Pairs(paths=(written(tmp_path / "a.tsv", "source\tsource", "a\tb"),))))
    with pytest.raises(DataError, match=r"b.tsv:2: no field 'target'; the line has \['source', 'tgt'\]"):
        list(pairs(Pairs(paths=(written(tmp_path / "b.tsv", "source\ttgt", "a\tb"),))))
    (tmp_path / "c.tsv").write_bytes(b"source\ttarget\na\t\xe9\n")
    with pytest.raises(DataError, match=r"c.tsv:2: byte 2 of the line \(0xE9\) is not UTF-8"):
        list(pairs(Pairs(paths=(str(tmp_path / "c.tsv"),))))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "x", "label": "ugly"}, r"a.jsonl:1: field 'label' has the label 'ugly', wanted one of 'bad', 'good'"),
        ({"text": "x", "label": True}, "field 'label' is a JSON bool, wanted a string"),
        ({"text": "x"}, r"no field 'label'; .*: set data.source.label_field"),
        ({"label": "bad"}, r"no field 'text'; .*: set data.source.text_field"),
    ],
)
def test_a_bad_label_is_refused(tmp_path: Path, record: object, message: str) -> None:
    path = written(tmp_path / "a.jsonl", record)
    with pytest.raises(DataError, match=message):
        list(labelled(Labelled(paths=(path,), labels=("bad", "good"))))


def test_a_target_stays_with_its_source_and_equal_sources_stay_together(tmp_path: Path) -> None:
    lines = [{"source": f"s{number % 50}", "target": f"t{number}"} for number in range(500)]
    source = Pairs(paths=(written(tmp_path / "a.jsonl", *lines),))
    split = survey(source, 0.3, 0)
    sides: dict[str, set[str]] = {}
    texts = list(pieces(source))
    for read, target in zip(texts[::2], texts[1::2], strict=True):
        side = split.side(read.digest())
        assert split.side(target.digest()) == side
        sides.setdefault(read.text, set()).add(side)
    assert {len(found) for found in sides.values()} == {1}
    assert set().union(*sides.values()) == {"train", "validation"}


def test_the_content_hash_sees_targets_and_labels(tmp_path: Path) -> None:
    def of_pairs(*lines: tuple[str, str]) -> str:
        rows = [{"source": source, "target": target} for source, target in lines]
        return survey(Pairs(paths=(written(tmp_path / "a.jsonl", *rows),)), 0.1, 0).digest

    def of_labels(*lines: tuple[str, str]) -> str:
        rows = [{"text": text, "label": label} for text, label in lines]
        source = Labelled(paths=(written(tmp_path / "a.jsonl", *rows),), labels=("x", "y"))
        return survey(source, 0.1, 0).digest

    digests = [
        of_pairs(("a", "x"), ("b", "y")), of_pairs(("a", "y"), ("b", "x")), of_pairs(("b", "y"), ("a", "x")),
        of_labels(("a", "x"), ("b", "y")), of_labels(("a", "y"), ("b", "y")),
    ]  # fmt: skip
    assert len(set(digests)) == 5
