"""Rotary position embedding."""

import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests.ops.pairs import PACKAGES, array, operation, tensor
from parity_tests.tolerances import HALF_BFLOAT16, MODULE, OPERATION

ROTARY, HEAD = 6, 8


def frequencies(base: float = 100.0) -> np.ndarray:
    """Those of both packages, checked to be the same."""
    ours, theirs = (operation(package, "position.rope_frequencies")(base, ROTARY) for package in PACKAGES)
    np.testing.assert_array_equal(theirs, ours)
    assert ours.dtype == np.float64
    return ours


def turned_by(
    package: str, x: np.ndarray, positions: np.ndarray, layout: str, dtype: str | None = None, magnitude: float = 1.0
) -> np.ndarray:
    apply = operation(package, "position.apply_rope")
    return array(apply(tensor(package, x, dtype), tensor(package, positions), frequencies(), layout, magnitude))


def rope(x: np.ndarray, positions: np.ndarray, layout: str) -> np.ndarray:
    """The rotated ``x``, after checking that both packages have the same."""
    ours, theirs = (turned_by(package, x, positions, layout) for package in PACKAGES)
    np.testing.assert_allclose(theirs, ours, **OPERATION)
    return ours


def test_pairs_turn_by_position_times_frequency(rng: np.random.Generator):
    x, positions = rng.normal(size=(2, 5, 3, HEAD)), rng.integers(0, 50, (2, 5)).astype(np.int32)
    turned = rope(x, positions, "interleaved")
    pairs = x[..., 0:ROTARY:2] + 1j * x[..., 1:ROTARY:2]
    want = pairs * np.exp(1j * positions[:, :, None, None] * 100.0 ** (-np.arange(3) * 2 / ROTARY))
    np.testing.assert_allclose(turned[..., 0:ROTARY:2] + 1j * turned[..., 1:ROTARY:2], want, **OPERATION)
    np.testing.assert_array_equal(turned[..., ROTARY:], x[..., ROTARY:])


def test_the_layouts_are_the_same_up_to_a_permutation(rng: np.random.Generator):
    x, positions = rng.normal(size=(2, 5, 3, HEAD)), rng.integers(0, 50, (2, 5)).astype(np.int32)
    order = [0, 2, 4, 1, 3, 5, 6, 7]
    half, interleaved = rope(x[..., order], positions, "half"), rope(x, positions, "interleaved")
    np.testing.assert_allclose(half, interleaved[..., order], **OPERATION)
    assert np.abs(rope(x, positions, "half") - interleaved).max() > 0.1


def test_a_reversed_pair_turns_backwards(rng: np.random.Generator):
    x, positions = rng.normal(size=(2, 5, 3, HEAD)), rng.integers(1, 50, (2, 5)).astype(np.int32)
    backwards = rope(x, positions, "half_reversed")
    np.testing.assert_allclose(backwards, rope(x, -positions, "half"), **OPERATION)
    assert np.abs(backwards - rope(x, positions, "half")).max() > 0.1


@pytest.mark.parametrize("layout", ["half", "half_reversed", "interleaved"])
def test_scores_depend_on_the_distance_alone(layout: str, rng: np.random.Generator):
    q, k = (np.tile(rng.normal(size=HEAD), (1, 4, 1, 1)) for _ in range(2))
    q, k = (rope(x, np.array([at], np.int32), layout)[0, :, 0] for x, at in ((q, [7, 1007, 7, 1007]), (k, [3, 1003, 4, 1004])))
    scores = (q * k).sum(-1)
    np.testing.assert_allclose(scores[::2], scores[1::2], **MODULE)
    assert abs(scores[0] - scores[2]) > 1e-3


@pytest.mark.parametrize("package", PACKAGES)
def test_bfloat16_positions_do_not_collide(package: str):
    # 1000 and 1001 are the same number in bfloat16.
    x = np.tile([1.0, 0.0], (1, 2, 1, HEAD // 2))
    turned = turned_by(package, x, np.array([[1000, 1001]], np.int32), "interleaved", "bfloat16")
    np.testing.assert_allclose(turned[0, :, 0, 0], np.cos([1000.0, 1001.0]), atol=HALF_BFLOAT16)


@pytest.mark.parametrize("layout", ["half", "half_reversed", "interleaved"])
def test_each_token_may_have_frequencies_of_its_own(layout: str, rng: np.random.Generator):
    x, positions = rng.normal(size=(2, 5, 3, HEAD)), rng.integers(0, 50, (2, 5)).astype(np.int32)
    own = frequencies() * rng.uniform(0.5, 1.0, (2, 5, 1))
    results = [
        array(operation(package, "position.apply_rope")(*(tensor(package, each) for each in (x, positions, own)), layout))
        for package in PACKAGES
    ]
    np.testing.assert_allclose(results[1], results[0], **OPERATION)
    apply = operation("jax_transformer", "position.apply_rope")
    for b, t in np.ndindex(2, 5):
        one = apply(jnp.asarray(x[b : b + 1, t : t + 1]), jnp.asarray(positions[b : b + 1, t : t + 1]), own[b, t], layout)
        np.testing.assert_allclose(results[0][b, t], np.asarray(one)[0, 0], **OPERATION)


@pytest.mark.parametrize("layout", ["half", "half_reversed", "interleaved"])
def test_a_magnitude_multiplies_what_rotates_alone(layout: str, rng: np.random.Generator):
    x, positions = rng.normal(size=(2, 5, 3, HEAD)), rng.integers(0, 50, (2, 5)).astype(np.int32)
    once = rope(x, positions, layout)
    for package in PACKAGES:
        scaled = turned_by(package, x, positions, layout, magnitude=1.25)
        np.testing.assert_allclose(scaled[..., :ROTARY], 1.25 * once[..., :ROTARY], **OPERATION)
        np.testing.assert_array_equal(scaled[..., ROTARY:], x[..., ROTARY:])


@pytest.mark.parametrize("package", PACKAGES)
def test_a_magnitude_enters_before_sine_and_cosine_are_rounded(package: str):
    # 1.004 alone would be 1 in bfloat16, and so would be its product with what is rounded already.
    x, positions = np.tile([1.0, 0.0], (1, 64, 1, HEAD // 2)), np.arange(64, dtype=np.int32)[None]
    first = turned_by(package, x, positions, "interleaved", "bfloat16", magnitude=1.004)[0, :, 0, 0]
    want = np.asarray(jnp.asarray(np.cos(np.arange(64.0)) * 1.004, jnp.bfloat16), np.float64)
    assert (first == want).mean() > 0.9  # float32 and float64 round a few differently
    assert (first != turned_by(package, x, positions, "interleaved", "bfloat16")[0, :, 0, 0]).any()


@pytest.mark.parametrize("layout", ["half", "half_reversed", "interleaved"])
def test_both_packages_round_the_same_way_in_16_bits(layout: str, rng: np.random.Generator):
    x, positions = rng.normal(size=(2, 50, 3, HEAD)), rng.integers(0, 2000, (2, 50)).astype(np.int32)
    ours, theirs = (turned_by(package, x, positions, layout, "bfloat16", magnitude=1.1) for package in PACKAGES)
    np.testing.assert_array_equal(theirs, ours)
