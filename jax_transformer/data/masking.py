"""Hidden tokens for masked language modelling."""

import numpy as np

from jax_transformer.config import MaskedLm
from jax_transformer.data.packing import Row


def mask_tokens(row: Row, c: MaskedLm, mask_id: int, vocab_size: int, generator: np.random.Generator) -> Row:
    """A row of text with some tokens hidden: ``tokens``, ``segments``, ``targets`` (the text) and ``weights`` (1: predict it).

    Each real token is picked with ``c.probability``; a picked one becomes the mask, a random id below ``vocab_size``, or stays.
    """
    text, segments = row["tokens"], row["segments"]
    picked = (generator.random(len(text)) < c.probability) & (segments != 0)
    share = generator.random(len(text))
    swapped = picked & (share >= c.mask) & (share < c.mask + c.random)
    tokens = np.where(swapped, generator.integers(vocab_size, size=len(text)), text)
    tokens = np.where(picked & (share < c.mask), mask_id, tokens)
    return {"tokens": tokens.astype(np.int32), "segments": segments, "targets": text, "weights": picked.astype(np.int32)}
