"""Blocks of 32 numbers of one row: small integers with one scale, and a least value in some.

``d`` and ``m`` are float16: a number is ``d * q``, or ``d * q + m``. All functions: bytes ``[blocks, num_bytes]`` to float32
``[blocks, 32]``.
"""

import numpy as np

LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
"""What the four bits of the types ``IQ4`` stand for."""


def q4_0(raw: np.ndarray) -> np.ndarray:
    """``d * (q - 8)``."""
    return half(raw, 0) * (_nibbles(raw[:, 2:]) - np.float32(8))


def q4_1(raw: np.ndarray) -> np.ndarray:
    """``d * q + m``."""
    return half(raw, 0) * _nibbles(raw[:, 4:]) + half(raw, 2)


def q5_0(raw: np.ndarray) -> np.ndarray:
    """``d * (q - 16)``, the fifth bits apart."""
    return half(raw, 0) * (_nibbles(raw[:, 6:]) + _fifth_bits(raw[:, 2:6]) - np.float32(16))


def q5_1(raw: np.ndarray) -> np.ndarray:
    """``d * q + m``, the fifth bits apart."""
    return half(raw, 0) * (_nibbles(raw[:, 8:]) + _fifth_bits(raw[:, 4:8])) + half(raw, 2)


def q8_0(raw: np.ndarray) -> np.ndarray:
    """``d * q`` of signed bytes."""
    return half(raw, 0) * raw[:, 2:].view(np.int8).astype(np.float32)


def iq4_nl(raw: np.ndarray) -> np.ndarray:
    """``d * LEVELS[q]``."""
    return half(raw, 0) * LEVELS[_nibbles(raw[:, 2:]).astype(np.intp)]


def half(raw: np.ndarray, start: int) -> np.ndarray:
    """The float16 at byte ``start`` of every block, as ``[blocks, 1]``."""
    return np.ascontiguousarray(raw[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """The low halves of 16 bytes, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)


def _fifth_bits(packed: np.ndarray) -> np.ndarray:
    """Sixteen for every bit that is set, the lowest first."""
    return np.unpackbits(packed, axis=1, bitorder="little").astype(np.float32) * np.float32(16)
