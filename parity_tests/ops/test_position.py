"""Rotary position embedding."""

import numpy as np
import pytest

from parity_tests.ops.pairs import EXACT, PACKAGES, array, operation, tensor

ROTARY, HEAD = 6, 8


def frequencies(base: float = 100.0) -> np.ndarray:
    """Those of both packages, checked to be the same."""
    ours, theirs = (operation(package, "position.rope_frequencies")(base, ROTARY) for package in PACKAGES)
    np.testing.assert_array_equal(theirs, ours)
    assert ours.dtype == np.float64
    return ours


def turned_by(package: str, x: np.ndarray, positions: np.ndarray, layout: str, dtype: str | None = None) -> np.ndarray:
    apply = operation(package, "position.apply_rope")
    return array(apply(tensor(package, x, dtype), tensor(package, positions), frequencies(), layout))


def rope(x: np.ndarray, positions: np.ndarray, layout: str) -> np.ndarray:
    """The rotated ``x``, after checking that both packages have the same."""
    ours, theirs = (turned_by(package, x, positions, layout) for package in PACKAGES)
    np.testing.assert_allclose(theirs, ours, **EXACT)
    return ours


def test_pairs_turn_by_position_times_frequency(rng: np.random.Generator):
    x, positions = rng.normal(size=(2, 5, 3, HEAD)), rng.integers(0, 50, (2, 5)).astype(np.int32)
    turned = rope(x, positions, "interleaved")
    pairs = x[..., 0:ROTARY:2] + 1j * x[..., 1:ROTARY:2]
    want = pairs * np.exp(1j * positions[:, :, None, None] * 100.0 ** (-np.arange(3) * 2 / ROTARY))
    np.testing.assert_allclose(turned[..., 0:ROTARY:2] + 1j * turned[..., 1:ROTARY:2], want, **EXACT)
    np.testing.assert_array_equal(turned[..., ROTARY:], x[..., ROTARY:])


def test_the_layouts_are_the_same_up_to_a_permutation(rng: np.random.Generator):
    x, positions = rng.normal(size=(2, 5, 3, HEAD)), rng.integers(0, 50, (2, 5)).astype(np.int32)
    order = [0, 2, 4, 1, 3, 5, 6, 7]
    half, interleaved = rope(x[..., order], positions, "half"), rope(x, positions, "interleaved")
    np.testing.assert_allclose(half, interleaved[..., order], **EXACT)
    assert np.abs(rope(x, positions, "half") - interleaved).max() > 0.1


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_scores_depend_on_the_distance_alone(layout: str, rng: np.random.Generator):
    q, k = (np.tile(rng.normal(size=HEAD), (1, 4, 1, 1)) for _ in range(2))
    q, k = (rope(x, np.array([at], np.int32), layout)[0, :, 0] for x, at in ((q, [7, 1007, 7, 1007]), (k, [3, 1003, 4, 1004])))
    scores = (q * k).sum(-1)
    np.testing.assert_allclose(scores[::2], scores[1::2], rtol=1e-10)
    assert abs(scores[0] - scores[2]) > 1e-3


@pytest.mark.parametrize("package", PACKAGES)
def test_bfloat16_positions_do_not_collide(package: str):
    # 1000 and 1001 are the same number in bfloat16.
    x = np.tile([1.0, 0.0], (1, 2, 1, HEAD // 2))
    turned = turned_by(package, x, np.array([[1000, 1001]], np.int32), "interleaved", "bfloat16")
    np.testing.assert_allclose(turned[0, :, 0, 0], np.cos([1000.0, 1001.0]), atol=2**-8)
