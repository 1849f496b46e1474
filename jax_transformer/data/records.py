"""Pairs and labelled texts: a line of a file each, in an order that never changes."""

from collections.abc import Iterator, Mapping
from typing import Any

from jax_transformer.config import data as config
from jax_transformer.config.errors import DataError
from jax_transformer.data.sources import files_of, json_object, opened, text_field


def pairs(source: config.Pairs) -> Iterator[tuple[str, str]]:
    """Source and target of every line.

    Raises:
        DataError: as ``documents``; a file that is neither JSONL nor TSV, a line with other columns than the header, or an
            empty text; naming the file, the line and the field.
    """
    for where, record in _records(source.paths, source.source_field):
        yield (
            _filled(where, record, source.source_field, "source_field"),
            _filled(where, record, source.target_field, "target_field"),
        )


def labelled(source: config.Labelled) -> Iterator[tuple[str, int]]:
    """Text and number of the label of every line; a JSON label may be a string or a whole number.

    Raises:
        DataError: as ``pairs``, or a label that ``labels`` does not have.
    """
    numbers = {label: number for number, label in enumerate(source.labels)}
    for where, record in _records(source.paths, source.text_field):
        text = _filled(where, record, source.text_field, "text_field")
        value = record.get(source.label_field)
        label = str(value) if type(value) is int else text_field(where, record, source.label_field, "label_field")
        if label not in numbers:
            raise DataError(
                f"{where}: field {source.label_field!r} has the label {label!r}, wanted one of "
                f"{', '.join(map(repr, source.labels))}: set data.source.labels"
            )
        yield text, numbers[label]


def _records(patterns: tuple[str, ...], field: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """``file:line`` and fields of each line of each file; blank lines are skipped."""
    for path in files_of(patterns):
        if path.suffix not in (".jsonl", ".tsv"):
            raise DataError(f"{path}: wanted a file that ends in .jsonl or .tsv, which says how its fields are written")
        with opened(path) as file:
            lines = ((f"{path}:{number}", line) for number, line in enumerate(file, 1) if line.strip())
            if path.suffix == ".tsv":
                yield from _table(lines)
            else:
                yield from ((where, json_object(where, line, field)) for where, line in lines)


def _table(lines: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, dict[str, str]]]:
    rows = ((where, _cells(where, line)) for where, line in lines)
    where, header = next(rows, ("", []))
    if len(set(header)) < len(header):
        raise DataError(f"{where}: the header {header} names a column twice")
    for where, cells in rows:
        if len(cells) != len(header):
            raise DataError(f"{where}: {len(cells)} columns, wanted {len(header)}, those of the header: {header}")
        yield where, dict(zip(header, cells, strict=True))


def _cells(where: str, line: bytes) -> list[str]:
    try:
        return line.decode("utf-8").rstrip("\r\n").split("\t")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} of the line (0x{line[error.start]:02X}) is not UTF-8") from error


def _filled(where: str, record: Mapping[str, Any], field: str, setting: str) -> str:
    text = text_field(where, record, field, setting)
    if not text:
        raise DataError(f"{where}: field {field!r} is empty, wanted a text; remove the line or fill it")
    return text
