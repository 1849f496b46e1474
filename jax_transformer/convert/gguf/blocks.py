"""The tensor types of GGUF: plain numbers, and blocks of small integers with scales, which can be multiplied out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from jax_transformer.convert.gguf import small_blocks, super_blocks

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


_FLOAT32 = np.dtype("<f4")

BLOCKS: dict[str, Block] = {
    "F32": Block(1, 4, _FLOAT32),
    "F16": Block(1, 2, np.dtype("<f2")),
    "BF16": Block(1, 2, np.dtype(ml_dtypes.bfloat16)),
    "F64": Block(1, 8, np.dtype("<f8")),
    "Q4_0": Block(32, 18, _FLOAT32, small_blocks.q4_0),
    "Q4_1": Block(32, 20, _FLOAT32, small_blocks.q4_1),
    "Q5_0": Block(32, 22, _FLOAT32, small_blocks.q5_0),
    "Q5_1": Block(32, 24, _FLOAT32, small_blocks.q5_1),
    "Q8_0": Block(32, 34, _FLOAT32, small_blocks.q8_0),
    "IQ4_NL": Block(32, 18, _FLOAT32, small_blocks.iq4_nl),
    "Q2_K": Block(256, 84, _FLOAT32, super_blocks.q2_k),
    "Q3_K": Block(256, 110, _FLOAT32, super_blocks.q3_k),
    "Q4_K": Block(256, 144, _FLOAT32, super_blocks.q4_k),
    "Q5_K": Block(256, 176, _FLOAT32, super_blocks.q5_k),
    "Q6_K": Block(256, 210, _FLOAT32, super_blocks.q6_k),
    "IQ4_XS": Block(256, 136, _FLOAT32, super_blocks.iq4_xs),
}
"""The types that are read; those with ``dequantize`` only where that is asked for."""
