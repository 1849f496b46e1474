"""The split: deterministic, disjoint, complete, near the fraction asked for, and blind to what lies elsewhere."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_transformer.config import JsonLines, TextFiles
from jax_transformer.config.errors import DataError
from jax_transformer.data.split import PIECE_CHARACTERS, Piece, _cut, pieces, survey


def sides(source: TextFiles | JsonLines, fraction: float = 0.1, seed: int = 0) -> dict[str, list[Piece]]:
    split = survey(source, fraction, seed)
    found: dict[str, list[Piece]] = {"train": [], "validation": []}
    for piece in pieces(source):
        found[split.side(piece.digest())].append(piece)
    return found


def numbered(path: Path, lines: int, start: int = 0) -> TextFiles:
    path.write_text("".join(f"line {number} of the text\n" for number in range(start, start + lines)))
    return TextFiles(paths=(str(path),))


def many(path: Path, texts: list[str]) -> JsonLines:
    path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    return JsonLines(paths=(str(path),))


@given(st.lists(st.integers(0, 6000), max_size=8), st.data())
def test_pieces_join_to_the_document_however_it_arrives(lines: list[int], data: st.DataObject) -> None:
    text = "\n".join("x" * length for length in lines)
    parts = text.splitlines(keepends=True)
    cut = data.draw(st.integers(0, len(text)))
    found = list(_cut(iter(parts)))
    assert "".join(piece.text for piece in found) == text
    assert found == list(_cut(iter([text]))) == list(_cut(iter([text[:cut], "", text[cut:]])))
    assert all(0 < len(piece.text) <= PIECE_CHARACTERS for piece in found)
    assert [piece.last for piece in found] == [False] * (len(found) - 1) + [True] * bool(found)
    for piece in found[:-1]:
        assert piece.text.endswith("\n") or "\n" not in piece.text


@pytest.mark.parametrize("fraction", [0.03, 0.1, 0.5, 0.9])
def test_many_documents_and_one_split_near_the_fraction(tmp_path: Path, fraction: float) -> None:
    one = numbered(tmp_path / "one.txt", 100_000)
    for source in (one, many(tmp_path / "many.jsonl", [f"document {number}" for number in range(2000)])):
        found = sides(source, fraction)
        total = sum(map(len, found.values()))
        spread = 4 * (fraction * (1 - fraction) / total) ** 0.5
        assert abs(len(found["validation"]) / total - fraction) < spread
        assert not {piece.text for piece in found["train"]} & {piece.text for piece in found["validation"]}
        assert total == len(list(pieces(source)))


def test_the_split_depends_on_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    source = numbered(tmp_path / "a.txt", 50_000)
    assert sides(source) == sides(source)
    assert sides(source, seed=1) != sides(source, seed=2)


def test_equal_documents_are_on_one_side(tmp_path: Path) -> None:
    texts = [f"document {number % 100}" for number in range(1000)]
    found = sides(many(tmp_path / "a.jsonl", texts), 0.3)
    assert not {piece.text for piece in found["train"]} & {piece.text for piece in found["validation"]}
    assert len(found["validation"]) % 10 == 0


def test_added_documents_move_none_of_the_old(tmp_path: Path) -> None:
    texts = [f"document {number}" for number in range(1000)]
    few = sides(many(tmp_path / "few.jsonl", texts[::2]))
    more = sides(many(tmp_path / "more.jsonl", texts))
    for side in few:
        assert {piece.text for piece in few[side]} <= {piece.text for piece in more[side]}


@pytest.mark.parametrize("fraction", [1e-9, 0.1, 1 - 1e-9])
def test_the_smallest_corpus_has_both_sides(tmp_path: Path, fraction: float) -> None:
    for number in range(20):
        found = sides(many(tmp_path / "two.jsonl", [f"a{number}", f"b{number}"]), fraction)
        assert [len(found["train"]), len(found["validation"])] == [1, 1]


def test_the_content_hash_sees_text_and_document_ends(tmp_path: Path) -> None:
    digests = {
        survey(many(tmp_path / "a.jsonl", texts), 0.1, 0).digest
        for texts in (["ab", "cd"], ["cd", "ab"], ["abc", "d"], ["ab", "cd", "cd"], ["ab", "ce"])
    }
    assert len(digests) == 5
    parts = ["x" * PIECE_CHARACTERS, "y"]
    joined = [survey(many(tmp_path / "a.jsonl", texts), 0.1, 0).digest for texts in (parts, ["".join(parts)])]
    assert joined[0] != joined[1], "the same pieces, but another document end"
    renamed = [survey(many(tmp_path / name, ["ab", "cd"]), 0.1, 0).digest for name in ("b.jsonl", "c.jsonl")]
    assert renamed[0] == renamed[1]
    assert renamed[0] in digests


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the corpus is empty"):
        survey(many(tmp_path / "none.jsonl", ["", ""]), 0.1, 0)
    with pytest.raises(DataError, match="corpus of 1 characters is too short to split"):
        survey(TextFiles(paths=(str(_one_byte(tmp_path)),)), 0.1, 0)
    with pytest.raises(DataError, match="too short to split"):
        survey(many(tmp_path / "same.jsonl", ["copy"] * 9), 0.1, 0)


def _one_byte(folder: Path) -> Path:
    (folder / "one.txt").write_bytes(b"x")
    return folder / "one.txt"
