"""What a step holds, for tests that look at parameters."""

from pathlib import Path
from typing import Any

import numpy as np

from jax_transformer.train.checkpoint import restore_arrays
from jax_transformer.train.committed import Which


def restore_params(folder: Path, step: Which = "latest") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The parameters of a verified step, as {dotted path: numpy array}, and the caller's record."""
    arrays, record = restore_arrays(folder, step, "params/")
    return {name.removeprefix("params/"): array for name, array in arrays.items()}, record
