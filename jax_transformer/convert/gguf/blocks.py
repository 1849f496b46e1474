"""The tensor types of GGUF: plain numbers, and blocks of small integers with a scale, which can be multiplied out.

A block holds 32 numbers of one row. ``d`` and ``m`` are float16: a number is ``d * q``, or ``d * q + m``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

_UP_TO_BF16 = (
    "F32 F16 Q4_0 Q4_1 Q4_2 Q4_3 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K "
    "IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16"
)
TYPE_NAMES = dict(enumerate(_UP_TO_BF16.split())) | {34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0"}
"""Number in a file to name."""


@dataclass(frozen=True)
class Block:
    """How a type is stored: ``num_bytes`` for ``elements`` numbers in a row."""

    elements: int
    num_bytes: int
    dtype: np.dtype[Any]
    """Of the numbers that are read."""
    dequantize: Callable[[np.ndarray], np.ndarray] | None = None
    """Bytes ``[blocks, num_bytes]`` to numbers ``[blocks, elements]``; None: they are the numbers."""


def _q4_0(raw: np.ndarray) -> np.ndarray:
    return _half(raw, 0) * (_nibbles(raw[:, 2:]) - np.float32(8))


def _q4_1(raw: np.ndarray) -> np.ndarray:
    return _half(raw, 0) * _nibbles(raw[:, 4:]) + _half(raw, 2)


def _q5_0(raw: np.ndarray) -> np.ndarray:
    return _half(raw, 0) * (_nibbles(raw[:, 6:]) + _fifth_bits(raw[:, 2:6]) - np.float32(16))


def _q5_1(raw: np.ndarray) -> np.ndarray:
    return _half(raw, 0) * (_nibbles(raw[:, 8:]) + _fifth_bits(raw[:, 4:8])) + _half(raw, 2)


def _q8_0(raw: np.ndarray) -> np.ndarray:
    return _half(raw, 0) * raw[:, 2:].view(np.int8).astype(np.float32)


def _half(raw: np.ndarray, start: int) -> np.ndarray:
    """The float16 at byte ``start`` of every block, as ``[blocks, 1]``."""
    return np.ascontiguousarray(raw[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """The low halves of 16 bytes, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)


def _fifth_bits(packed: np.ndarray) -> np.ndarray:
    """Sixteen for every bit that is set, the lowest first."""
    return np.unpackbits(packed, axis=1, bitorder="little").astype(np.float32) * np.float32(16)


_FLOAT32 = np.dtype("<f4")

BLOCKS: dict[str, Block] = {
    "F32": Block(1, 4, _FLOAT32),
    "F16": Block(1, 2, np.dtype("<f2")),
    "BF16": Block(1, 2, np.dtype(ml_dtypes.bfloat16)),
    "F64": Block(1, 8, np.dtype("<f8")),
    "Q4_0": Block(32, 18, _FLOAT32, _q4_0),
    "Q4_1": Block(32, 20, _FLOAT32, _q4_1),
    "Q5_0": Block(32, 22, _FLOAT32, _q5_0),
    "Q5_1": Block(32, 24, _FLOAT32, _q5_1),
    "Q8_0": Block(32, 34, _FLOAT32, _q8_0),
}
"""The types that are read; those with ``dequantize`` only where that is asked for."""
