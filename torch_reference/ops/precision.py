"""Where precision is raised: reductions never run below float32.

There is no ``matmul_precision`` here: torch multiplies float32 in full precision unless the process asks for less with
``torch.set_float32_matmul_precision``.
"""

import torch


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """float32 for the 16-bit types, the type itself for float32 and float64: nothing is ever cast down."""
    return torch.promote_types(dtype, torch.float32)
