"""One safetensors file: its header, parsed as hostile input, and reads that never map the file.

Layout (https://github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON header, then the tensors
back to back, little-endian and in C order.
"""

import json
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jax_transformer.config.errors import WeightsError

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
}
"""Format name to numpy dtype, in the order of the safetensors library: it writes the last of these first, for alignment."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_RANK = {dtype: rank for rank, dtype in enumerate(DTYPES.values())}
_MAX_HEADER = 4 * 2**20
"""Bytes: about 25 000 tensors in one file. The library's own 100 MB let a hostile header take gigabytes to parse."""
_MAX_ELEMENTS = 2**48
_MAX_DIMS = 32
_CHUNK = 4 * 2**20
_GAP = 16
"""Bytes between two pieces that are read along with them: what is stored by turns is not asked for number by number."""

Positions = tuple[np.ndarray, ...]
"""A part of a tensor: for each dimension which of its indices, ascending."""


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: ``offset`` counts bytes from the start of the file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def num_bytes(self) -> int:
        """Size of the tensor in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def format_header(specs: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> tuple[bytes, dict[str, TensorInfo]]:
    """Header bytes and tensor positions of a file that holds ``specs``; the same bytes as the safetensors library writes.

    Raises WeightsError for a dtype that the format does not have, or more tensors than a file may hold.
    """
    for name, (_, dtype) in specs.items():
        if dtype not in _RANK:
            raise WeightsError(f"tensor {name!r}: dtype {dtype} cannot be stored; wanted one of {sorted(map(str, _RANK))}")
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin, starts = 0, {}
    for name in sorted(specs, key=lambda name: (-_RANK[specs[name][1]], name)):
        shape, dtype = specs[name]
        end = begin + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        starts[name], begin = begin, end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise WeightsError(f"{len(specs)} tensors are too many for one file; choose a smaller max_shard_bytes")
    data = 8 + len(text)
    positions = {name: TensorInfo(*specs[name], offset=data + start) for name, start in starts.items()}
    return len(text).to_bytes(8, "little") + text, positions


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Name to position of every tensor in ``path``. Reads the header only.

    Raises WeightsError for a file that is missing, truncated, or whose header breaks any rule of the format.
    """
    try:
        return _parse_header(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_bytes(path: Path, offset: int, count: int) -> np.ndarray:
    """``count`` bytes of ``path`` from ``offset`` as uint8. Peak memory is the result itself."""
    buffer = np.empty(count, np.uint8)
    with _opened(path) as file:
        _fill(file, offset, buffer)
    return buffer


def positions(shape: tuple[int, ...], rows: slice = slice(None)) -> Positions:
    """All of a tensor of ``shape``, or consecutive ``rows`` of its first dimension."""
    return tuple(np.arange(size)[rows if axis == 0 else slice(None)] for axis, size in enumerate(shape))


def flattened(shape: tuple[int, ...], part: Positions) -> np.ndarray:
    """Where the elements of ``part`` are in the flattened tensor of ``shape``."""
    flat = np.zeros(1, np.int64)
    for size, chosen in zip(shape, part, strict=True):
        flat = (flat[:, None] * size + chosen).ravel()
    return flat


def read_part(path: Path, info: TensorInfo, part: Positions) -> np.ndarray:
    """A part of a tensor: its bytes, and gaps of at most 16 bytes between them, are all that is read.

    What is cut last costs a read for each piece of each row before it. Peak memory is the result and a piece that has gaps.
    """
    shape, part = (info.shape, part) if info.shape else ((1,), positions((1,)))
    cut = max((axis for axis, size in enumerate(shape) if len(part[axis]) < size), default=0)
    step = math.prod(shape[cut + 1 :]) * info.dtype.itemsize
    chosen, leading = part[cut], flattened(shape[:cut], part[:cut])
    raw = np.empty((len(leading), len(chosen), step), np.uint8)
    ends = np.flatnonzero(np.diff(chosen) > 1 + _GAP // max(step, 1)) + 1
    bounds = list(zip([0, *ends.tolist()], [*ends.tolist(), len(chosen)], strict=True)) if raw.size else []
    with _opened(path) as file:
        for row, first in zip(raw, (leading * shape[cut]).tolist(), strict=True):
            for start, stop in bounds:
                piece = chosen[start:stop]
                span = int(piece[-1] - piece[0]) + 1
                exact = span == len(piece)
                buffer = row[start:stop].reshape(-1) if exact else np.empty(span * step, np.uint8)
                _fill(file, info.offset + (first + int(piece[0])) * step, buffer)
                if not exact:
                    row[start:stop] = buffer.reshape(span, step)[piece - piece[0]]
    return raw.reshape(-1).view(info.dtype).reshape([len(one) for one in part] if info.shape else ())


def parse_json(path: Path, text: bytes) -> dict[str, Any]:
    """``text`` as a JSON object, every key once: readers do not agree on which of two equal keys counts.

    Raises WeightsError for anything else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise WeightsError(f"{path}: key {key[:80]!a} appears twice in its JSON")
            result[key] = value
        return result

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: its JSON is a {type(value).__name__}, wanted an object")
    return value


@contextmanager
def _opened(path: Path) -> Generator[FileIO]:
    try:
        with path.open("rb", buffering=0) as file:
            yield file
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


def _fill(file: FileIO, offset: int, buffer: np.ndarray) -> None:
    view, done = buffer.data, 0
    file.seek(offset)
    while done < len(view):
        got = file.readinto(view[done : done + _CHUNK])
        if not got:
            raise WeightsError(f"{file.name}: ends {len(view) - done} bytes early: it was truncated after it was opened")
        done += got


def _parse_header(path: Path) -> dict[str, TensorInfo]:
    size = path.stat().st_size  # 0 for a fifo or a device, so that neither is opened
    if size < 8:
        raise WeightsError(f"{path}: {size} bytes, too short for a safetensors file")
    length = int.from_bytes(read_bytes(path, 0, 8).tobytes(), "little")
    if not 2 <= length <= min(_MAX_HEADER, size - 8):
        raise WeightsError(
            f"{path}: header length {length} is outside 2..{min(_MAX_HEADER, size - 8)}: "
            "the file is truncated, still being written, or no safetensors file"
        )
    header = parse_json(path, read_bytes(path, 8, length).tobytes())
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{path}: __metadata__ is not a map from text to text")
    tensors = {name: _parse_entry(path, name, entry, 8 + length) for name, entry in header.items()}
    _check_layout(path, tensors, 8 + length, size)
    return tensors


def _parse_entry(path: Path, name: str, entry: Any, data: int) -> TensorInfo:
    # Control characters and lone surrogates would corrupt whatever prints the name.
    if not name or not name.isprintable() or len(name) > 1024:
        raise WeightsError(f"{path}: {name[:80]!a} cannot be a tensor name")
    where = f"{path}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(f"{where}: its entry must have exactly dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise WeightsError(f"{where}: dtype {kind!r} is unknown; wanted one of {list(DTYPES)}")
    if not _counts(shape) or len(shape) > _MAX_DIMS or math.prod(size for size in shape if size) > _MAX_ELEMENTS:
        raise WeightsError(f"{where}: shape {_short(shape)} is not a list of at most {_MAX_DIMS} sizes of a real tensor")
    if not _counts(offsets) or len(offsets) != 2:
        raise WeightsError(f"{where}: data_offsets {_short(offsets)} is not a pair of positions")
    info = TensorInfo(tuple(shape), DTYPES[kind], data + offsets[0])
    if offsets[1] - offsets[0] != info.num_bytes:
        raise WeightsError(f"{where}: {kind}{shape} takes {info.num_bytes} bytes, its data_offsets {_short(offsets)} do not")
    return info


def _check_layout(path: Path, tensors: Mapping[str, TensorInfo], data: int, file_size: int) -> None:
    end = data
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].num_bytes)):
        if info.offset != end:
            what = "overlaps the tensor before it" if info.offset < end else "leaves a gap before it"
            raise WeightsError(f"{path}: tensor {name!r} {what}: it starts at byte {info.offset}, wanted {end}")
        end += info.num_bytes
    if end != file_size:
        what = "it is truncated" if end > file_size else "it has trailing bytes"
        raise WeightsError(f"{path}: {what}: {file_size} bytes, its header describes {end}")


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
