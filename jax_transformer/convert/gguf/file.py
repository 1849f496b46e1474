"""One GGUF file: its metadata and the places of its tensors, parsed as hostile input.

Layout (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), little-endian: the magic, a version, two counts, the
metadata as key, type and value, then name, dims, type and offset of every tensor; the tensors follow, each on an aligned byte.
Read here and not by the ``gguf`` package: that one trusts the counts of a header and maps the file.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.gguf.blocks import BLOCKS, TYPE_NAMES

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS: dict[int, np.dtype[Any]] = {
    number: np.dtype(code)
    for number, code in ((0, "u1"), (1, "i1"), (2, "<u2"), (3, "<i2"), (4, "<u4"), (5, "<i4"), (6, "<f4"), (_BOOL, "u1"))
} | {10: np.dtype("<u8"), 11: np.dtype("<i8"), 12: np.dtype("<f8")}

_MAX_HEADER = 128 * 2**20
"""Bytes before the tensors: vocabularies of a million tokens fit."""
_MAX_ITEMS = 4 * 2**20
"""Items of all arrays together: an empty text takes 8 bytes in the file and 50 in memory."""
_MAX_KEYS, _MAX_TENSORS, _MAX_DIMS, _MAX_ELEMENTS = 2**12, 2**16, 4, 2**48


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies, in its own blocks: ``offset`` counts bytes from the start of the file."""

    shape: tuple[int, ...]
    """Outermost dimension first; the file has them the other way round."""
    kind: int
    """Number of its type; ``blocks`` knows those that are read."""
    offset: int


@dataclass(frozen=True)
class GgufFile:
    """What the header of a file says."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]


def is_gguf(path: str | Path) -> bool:
    """Whether ``path`` is a file that begins as GGUF files do."""
    path = Path(path)
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_gguf(path: str | Path) -> GgufFile:
    """The header of a file; nothing of its tensors is read.

    Raises WeightsError for a file that is missing, truncated, or whose header breaks any rule of the format.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return parse_header(path, stream, path.stat().st_size)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


def parse_header(path: Path, stream: BinaryIO, size: int) -> GgufFile:
    """The header that ``stream`` begins with, of a file of ``size`` bytes that messages call ``path``.

    Raises WeightsError for a header that breaks any rule of the format.
    """
    return _Header(path, stream, size).parse()


class _Header:
    """Reads forward through a header, and never more of it than is there."""

    def __init__(self, path: Path, stream: BinaryIO, size: int) -> None:
        self._path, self._stream, self._size = path, stream, size
        self._left = min(size, _MAX_HEADER)
        self._items = _MAX_ITEMS

    def parse(self) -> GgufFile:
        """Everything that the header says."""
        if self._bytes(len(MAGIC)) != MAGIC:
            raise self._wrong("no GGUF file: it does not begin with the letters GGUF")
        version = self._number("<u4")
        if version not in _VERSIONS:
            order = " (a big-endian file: convert it to little-endian)" if version.to_bytes(4, "little")[0] == 0 else ""
            raise self._wrong(f"GGUF version {version}{order}; wanted one of {list(_VERSIONS)}")
        num_tensors, num_keys = self._count("tensors", _MAX_TENSORS), self._count("keys", _MAX_KEYS)
        metadata: dict[str, Any] = {}
        for _ in range(num_keys):
            key = self._name("key")
            if key in metadata:
                raise self._wrong(f"key {key!r} appears twice")
            metadata[key] = self._value(key, self._number("<u4"))
        tensors: dict[str, StoredTensor] = {}
        for _ in range(num_tensors):
            name = self._name("tensor")
            if name in tensors:
                raise self._wrong(f"tensor {name!r} appears twice")
            tensors[name] = self._tensor(name)
        return GgufFile(self._path, metadata, self._placed(tensors, self._alignment(metadata)))

    def _tensor(self, name: str) -> StoredTensor:
        num_dims = self._number("<u4")
        if not 1 <= num_dims <= _MAX_DIMS:
            raise self._wrong(f"tensor {name!r} has {num_dims} dims; wanted 1 to {_MAX_DIMS}")
        dims = [self._number("<u8") for _ in range(num_dims)]
        if 0 in dims or math.prod(dims) > _MAX_ELEMENTS:
            raise self._wrong(f"tensor {name!r}: dims {dims} are not those of a real tensor")
        kind = self._number("<u4")
        if kind not in TYPE_NAMES:
            raise self._wrong(f"tensor {name!r}: type number {kind} is unknown; wanted one of {TYPE_NAMES}")
        return StoredTensor(tuple(reversed(dims)), kind, self._number("<u8"))

    def _placed(self, tensors: Mapping[str, StoredTensor], alignment: int) -> dict[str, StoredTensor]:
        """The tensors with their places in the file: back to back in the header's order, but for the alignment."""
        end = data = _aligned(min(self._size, _MAX_HEADER) - self._left, alignment)
        placed = {}
        for name, tensor in tensors.items():
            start = data + tensor.offset
            if start != _aligned(end, alignment):
                raise self._wrong(f"tensor {name!r} starts at byte {start}; wanted {_aligned(end, alignment)}, after the last")
            placed[name] = StoredTensor(tensor.shape, tensor.kind, start)
            block = BLOCKS.get(TYPE_NAMES[tensor.kind])
            if block is None:
                raise self._unread(tensors)
            if tensor.shape[-1] % block.elements:
                raise self._wrong(f"tensor {name!r}: rows of {tensor.shape[-1]} are not whole blocks of {block.elements}")
            end = start + math.prod(tensor.shape) // block.elements * block.num_bytes
            if end > self._size:
                raise self._wrong(f"tensor {name!r} ends at byte {end}, the file at {self._size}: it is truncated")
        if self._size > _aligned(end, alignment):
            raise self._wrong(f"it has {self._size - end} bytes after its last tensor")
        return placed

    def _unread(self, tensors: Mapping[str, StoredTensor]) -> WeightsError:
        unread = sorted({TYPE_NAMES[tensor.kind] for tensor in tensors.values()} - BLOCKS.keys())
        first = next(name for name, tensor in tensors.items() if TYPE_NAMES[tensor.kind] not in BLOCKS)
        return self._wrong(f"tensors of type {unread} (the first: {first!r}) are not read; wanted {list(BLOCKS)}")

    def _alignment(self, metadata: Mapping[str, Any]) -> int:
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 8 <= alignment <= 2**16 or alignment & (alignment - 1):
            raise self._wrong(f"general.alignment {alignment!r} is no power of two from 8 to 65536")
        return alignment

    def _value(self, key: str, kind: int) -> Any:
        if kind == _STRING:
            return self._text(key)
        if kind == _ARRAY:
            inner, count = self._number("<u4"), self._number("<u8")
            if count > self._items:
                raise self._wrong(f"key {key!r}: an array of {count} items; wanted at most {_MAX_ITEMS} in all arrays")
            self._items -= count
            return [self._text(key) for _ in range(count)] if inner == _STRING else self._scalars(key, inner, count)
        return self._scalars(key, kind, 1)[0]

    def _scalars(self, key: str, kind: int, count: int) -> list[Any]:
        if kind not in _SCALARS:
            raise self._wrong(f"key {key!r}: values of type number {kind} are not read")
        raw = np.frombuffer(self._bytes(count * _SCALARS[kind].itemsize), _SCALARS[kind])
        if kind == _BOOL:
            return [bool(value) for value in raw]
        # A float32 stands for the shortest decimal that rounds to it: an epsilon of 1e-05, not 9.999999747378752e-06.
        return [float(str(value)) for value in raw] if raw.dtype == np.float32 else raw.tolist()

    def _count(self, what: str, most: int) -> int:
        count = self._number("<u8")
        if count > most:
            raise self._wrong(f"{count} {what}; wanted at most {most}")
        return count

    def _name(self, what: str) -> str:
        name = self._text(what)
        if not name or not name.isprintable() or len(name) > 256:
            raise self._wrong(f"{name[:80]!a} cannot be the name of a {what}")
        return name

    def _text(self, what: str) -> str:
        try:
            return self._bytes(self._number("<u8")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._wrong(f"{what}: a text is not UTF-8: {error}") from error

    def _number(self, code: str) -> int:
        dtype = np.dtype(code)
        return int.from_bytes(self._bytes(dtype.itemsize), "little")

    def _bytes(self, count: int) -> bytes:
        if count > self._left:
            limit = "it is truncated" if self._size <= _MAX_HEADER else f"headers of at most {_MAX_HEADER} bytes are read"
            raise self._wrong(f"its header goes on for {count} bytes where {self._left} are left: {limit}")
        self._left -= count
        return self._stream.read(count)

    def _wrong(self, what: str) -> WeightsError:
        return WeightsError(f"{self._path}: {what}")


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
