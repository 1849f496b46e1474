"""Masked tokens: the promised fractions, only real tokens, and the text unchanged where nothing is predicted."""

import numpy as np
import pytest

from jax_transformer.config import MaskedLm
from jax_transformer.data.masking import mask_tokens

MASK, IDS, LENGTH = 999, 50, 40_000


def row(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Tokens from 100 on, so that neither the mask nor a random id is one of them; the last quarter is padding."""
    segments = np.ones(LENGTH, np.int32)
    segments[LENGTH * 3 // 4 :] = 0
    return {"tokens": rng.integers(100, 900, LENGTH).astype(np.int32), "segments": segments}


@pytest.mark.parametrize("c", [MaskedLm(), MaskedLm(probability=0.4, mask=0.5, random=0.2), MaskedLm(mask=0.0, random=1.0)])
def test_each_kind_of_hidden_token_has_its_share(c: MaskedLm, rng: np.random.Generator) -> None:
    text = row(rng)
    hidden = mask_tokens(text, c, MASK, IDS, rng)
    picked, real = hidden["weights"] == 1, text["segments"] != 0
    masked, swapped = hidden["tokens"] == MASK, hidden["tokens"] < IDS
    kept = picked & ~masked & ~swapped
    shares = {c.mask: masked, c.random: swapped, 1.0 - c.mask - c.random: kept}
    assert abs(picked.sum() / real.sum() - c.probability) < 4 * (c.probability / real.sum()) ** 0.5
    for share, found in shares.items():
        assert abs(found.sum() / picked.sum() - share) < 4 * (0.25 / picked.sum()) ** 0.5
    if c.random:
        assert set(hidden["tokens"][swapped]) == set(range(IDS))


def test_the_text_is_the_target_and_stays_where_nothing_is_predicted(rng: np.random.Generator) -> None:
    text = row(rng)
    hidden = mask_tokens(text, MaskedLm(), MASK, IDS, rng)
    rest = hidden["weights"] == 0
    np.testing.assert_array_equal(hidden["targets"], text["tokens"])
    np.testing.assert_array_equal(hidden["tokens"][rest], text["tokens"][rest])
    assert rest[text["segments"] == 0].all(), "padding is never predicted"
    assert {value.dtype.name for value in hidden.values()} == {"int32"}
