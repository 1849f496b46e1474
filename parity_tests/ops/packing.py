"""Documents packed into the rows of a batch."""

import numpy as np


def packed(rng: np.random.Generator, length: int) -> np.ndarray:
    """Segments of two rows of documents of random lengths; the first ends with padding, the second begins with it."""
    rows = [np.sort(rng.integers(1, 4, length)) for _ in range(2)]
    rows[0][length - length // 5 :] = 0
    rows[1][: length // 4] = 0
    return np.stack(rows).astype(np.int32)
