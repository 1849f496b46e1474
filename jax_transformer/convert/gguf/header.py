"""The header of a GGUF file that is written: metadata and places of tensors as bytes."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.gguf.file import MAGIC

_ALIGNMENT = 32
_VERSION = 3
_KINDS: dict[np.dtype[Any], int] = {
    np.dtype(np.float32): 0,
    np.dtype(np.float16): 1,
    np.dtype(ml_dtypes.bfloat16): 30,
}
"""Numbers of the tensor types that are written."""
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


@dataclass(frozen=True)
class Header:
    """The first bytes of a file, where its tensors go, and how long it is."""

    content: bytes
    offsets: Mapping[str, int]
    """From the start of the file."""
    size: int


def make_header(metadata: Mapping[str, Any], tensors: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> Header:
    """The header of a file with these tensors, in this order. Numbers are stored in 32 bits.

    Raises WeightsError for a dtype that is not written.
    """
    head = [MAGIC, struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))]
    head += [_text(key) + _value(item) for key, item in metadata.items()]
    starts, end = {}, 0
    for name, (shape, dtype) in tensors.items():
        if dtype not in _KINDS:
            raise WeightsError(
                f"tensor {name!r}: {dtype} is not written to GGUF files; give a dtype, one of {sorted(map(str, _KINDS))}"
            )
        starts[name] = end
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head.append(_text(name) + dims + struct.pack("<IQ", _KINDS[dtype], end))
        end += _padded(math.prod(shape) * dtype.itemsize)
    content = b"".join(head)
    data = _padded(len(content))
    return Header(content, {name: data + start for name, start in starts.items()}, data + end)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _text(value: str) -> bytes:
    content = value.encode()
    return struct.pack("<Q", len(content)) + content


def _value(item: Any) -> bytes:
    """Type and value; a list has items of one type."""
    if isinstance(item, list):
        parts = [_value(one) for one in item]
        kind = parts[0][:4] if parts else struct.pack("<I", _STRING)
        return struct.pack("<I", _ARRAY) + kind + struct.pack("<Q", len(item)) + b"".join(part[4:] for part in parts)
    if isinstance(item, bool):
        return struct.pack("<IB", _BOOL, item)
    if isinstance(item, int):
        return struct.pack("<II", _UINT32, item) if item >= 0 else struct.pack("<Ii", _INT32, item)
    if isinstance(item, float):
        return struct.pack("<If", _FLOAT32, item)
    return struct.pack("<I", _STRING) + _text(item)
