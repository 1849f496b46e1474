"""Blocks of 256 numbers of one row, "K-quants": groups of 16 or 32 integers, each with a small scale of its own.

A number is ``d * s * q``, or ``d * s * q - dmin * m``: ``d`` and ``dmin`` are float16 and one for the block, ``s`` and ``m``
are integers and one for each group. The scale of a group is rounded to float32 before it meets ``q``, as in ggml.
All functions: bytes ``[blocks, num_bytes]`` to float32 ``[blocks, 256]``.
"""

import numpy as np

from jax_transformer.convert.gguf.small_blocks import LEVELS, half


def q2_k(raw: np.ndarray) -> np.ndarray:
    """Two bits; scales and minima of four, of 16 groups."""
    scales = raw[:, :16]
    return _groups(_fields(raw[:, 16:80], 2), half(raw, 80) * _float(scales & 15), half(raw, 82) * _float(scales >> 4))


def q3_k(raw: np.ndarray) -> np.ndarray:
    """Two bits and a third apart, minus four; signed scales of 16 groups, four bits and two more apart."""
    third = _fields(raw[:, :32], 1)
    low = np.concatenate([raw[:, 96:104] & 15, raw[:, 96:104] >> 4], axis=1)
    high = _shifted(raw[:, 104:108], 2).reshape(-1, 16)
    scales = _float(low | high << 4) - np.float32(32)
    return _groups(_fields(raw[:, 32:96], 2) + 4 * third - np.float32(4), half(raw, 108) * scales)


def q4_k(raw: np.ndarray) -> np.ndarray:
    """Four bits; scales and minima of six, of eight groups."""
    scales, minima = _six_bits(raw[:, 4:16])
    return _groups(_fields(raw[:, 16:], 4), half(raw, 0) * scales, half(raw, 2) * minima)


def q5_k(raw: np.ndarray) -> np.ndarray:
    """The same with a fifth bit apart."""
    scales, minima = _six_bits(raw[:, 4:16])
    numbers = _fields(raw[:, 48:], 4) + 16 * _fields(raw[:, 16:48], 1)
    return _groups(numbers, half(raw, 0) * scales, half(raw, 2) * minima)


def q6_k(raw: np.ndarray) -> np.ndarray:
    """Four bits and two more apart, minus 32; signed bytes as scales of 16 groups."""
    low = _shifted(raw[:, :128].reshape(-1, 64), 4).reshape(-1, 256)
    numbers = _float(low) + 16 * _fields(raw[:, 128:192], 2) - np.float32(32)
    return _groups(numbers, half(raw, 208) * _float(raw[:, 192:208].view(np.int8)))


def iq4_xs(raw: np.ndarray) -> np.ndarray:
    """Numbers of ``LEVELS``, signed scales of eight groups: four bits and two more apart."""
    low = _shifted(raw[:, 4:8, None], 4).reshape(-1, 4, 2).reshape(-1, 8)
    high = _shifted(raw[:, 2:4, None], 2).reshape(-1, 8)
    scales = _float(low | high << 4) - np.float32(32)
    numbers = _shifted(raw[:, 8:].reshape(-1, 16), 4).reshape(-1, 256)
    return _groups(LEVELS[numbers], half(raw, 0) * scales)


def _groups(numbers: np.ndarray, scales: np.ndarray, minima: np.ndarray | None = None) -> np.ndarray:
    """``numbers [blocks, 256]`` times the scale, less the minimum, of their group."""
    grouped = numbers.reshape(*scales.shape, -1) * scales[..., None]
    return (grouped if minima is None else grouped - minima[..., None]).reshape(-1, 256)


def _fields(packed: np.ndarray, bits: int) -> np.ndarray:
    """The parts of each byte, of every 32 bytes first the lowest parts, then those above; float32."""
    return _float(_shifted(packed.reshape(-1, 32), bits)).reshape(len(packed), -1)


def _shifted(packed: np.ndarray, bits: int) -> np.ndarray:
    """``[n, bytes]`` as ``[n, 8 / bits, bytes]``: the lowest parts of all bytes, then those above."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return packed[..., None, :] >> shifts[:, None] & np.uint8(2**bits - 1)


def _six_bits(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eight scales and eight minima in twelve bytes: the last four of each have their upper bits in the first eight bytes."""
    first, second, low = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, low & 15 | first >> 6 << 4], axis=1)
    minima = np.concatenate([second & 63, low >> 4 | second >> 6 << 4], axis=1)
    return _float(scales), _float(minima)


def _float(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.float32)
