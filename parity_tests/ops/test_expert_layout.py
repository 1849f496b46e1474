"""Every pair of token and expert has one row, and the rows are as many as the load asks for."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_transformer.ops.experts.layout import LARGEST_BLOCK, MOST_BLOCKS, SMALLEST_SHARE, Layout, layout_of, sizes_of
from parity_tests.ops.pairs import array

E, K = 6, 2


def drawn(rng: np.random.Generator, n: int, skew: float) -> np.ndarray:
    """Low ids are the more liked the larger ``skew``; the expert E is none."""
    return np.argsort(rng.random((n, E + 1)) + skew * np.arange(E + 1), axis=1)[:, :K]


def owners_of_rows(layout: Layout, share: int, block: int) -> list[tuple[int, int]]:
    """(pair, expert) of every row that is computed."""
    found = [(int(pair), row // share) for row, pair in enumerate(array(layout.pairs))]
    pieces = layout.pieces
    for piece in range(int(pieces.used)):
        first, count = int(pieces.first_rows[piece]), int(pieces.lengths[piece]) * block
        found += [(int(pair), int(pieces.owners[piece])) for pair in array(pieces.pairs)[first : first + count]]
    return found


@pytest.mark.parametrize("skew", [0.0, 0.05, 0.3, 3.0])
@pytest.mark.parametrize(("n", "block"), [(1, None), (20, 3), (24, None), (90, 1), (90, None), (300, 4), (300, None)])
def test_every_pair_has_one_row_of_its_expert(n: int, block: int | None, skew: float, rng: np.random.Generator):
    chosen, sizes = drawn(rng, n, skew), sizes_of(n, K, E, block)
    layout = layout_of(jnp.asarray(chosen), sizes)
    rows = owners_of_rows(layout, sizes.share, sizes.block)
    flat = chosen.reshape(-1)
    assert sorted(row for row in rows if row[0] < n * K) == [(pair, flat[pair]) for pair in range(n * K) if flat[pair] < E]
    loads = np.bincount(flat, minlength=E + 1)[:E]
    padding = (sizes.block - 1) * np.count_nonzero(loads > sizes.share)
    assert len(rows) <= E * sizes.share + np.maximum(loads - sizes.share, 0).sum() + padding
    held = np.flatnonzero(array(layout.pairs) < n * K)
    np.testing.assert_array_equal(array(layout.slots).reshape(-1)[array(layout.pairs)[held]], held)


def test_an_even_load_needs_no_pieces_and_few_tokens_no_shares():
    even = np.stack([np.arange(60) % E, (np.arange(60) + 1) % E], axis=1)
    sizes = sizes_of(60, K, E, None)
    assert sizes.share == 60 * K // E
    assert int(layout_of(jnp.asarray(even), sizes).pieces.used) == 0
    assert sizes_of(SMALLEST_SHARE * E // K - 1, K, E, None).share == 0
    assert sizes_of(SMALLEST_SHARE * E // K, K, E, None).share == SMALLEST_SHARE


def test_all_tokens_at_one_expert_are_few_pieces():
    sizes = sizes_of(1000, 1, E, None)
    pieces = layout_of(jnp.full((1000, 1), 3), sizes).pieces
    assert int(pieces.used) == -(-(1000 - sizes.share) // (LARGEST_BLOCK * MOST_BLOCKS))
    assert set(array(pieces.owners)[: int(pieces.used)]) == {3}
