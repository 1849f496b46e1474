"""The language-modelling loss."""

import numpy as np
import pytest

from parity_tests.ops.pairs import PACKAGES, agreed, call
from parity_tests.tolerances import FLOAT32_OPERATION, OPERATION


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rng.normal(size=(2, 4, 7)) * 3, rng.integers(0, 7, (2, 4)).astype(np.int32), rng.random((2, 4))


def test_cross_entropy_is_its_formula(rng: np.random.Generator):
    logits, targets, weights = draw(rng)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    want = -(weights * np.log(np.take_along_axis(probabilities, targets[..., None], -1)[..., 0])).sum()
    np.testing.assert_allclose(agreed("loss.cross_entropy", logits, targets, weights), want, **OPERATION)


def test_a_weight_of_zero_silences_a_token(rng: np.random.Generator):
    logits, targets, weights = draw(rng)
    weights[1, 2:] = 0
    before = agreed("loss.cross_entropy", logits, targets, weights)
    logits[1, 2:], targets[1, 2:] = rng.normal(size=(2, 7)), 0
    np.testing.assert_array_equal(agreed("loss.cross_entropy", logits, targets, weights), before)


def test_losses_of_micro_batches_add_up(rng: np.random.Generator):
    logits, targets, weights = draw(rng)
    weights[0] = 0.0
    parts = [agreed("loss.cross_entropy", logits[i : i + 1], targets[i : i + 1], weights[i : i + 1]) for i in range(2)]
    np.testing.assert_allclose(sum(parts), agreed("loss.cross_entropy", logits, targets, weights), **OPERATION)


def test_huge_logits_give_a_finite_loss():
    loss = agreed("loss.cross_entropy", np.array([[[1e5, -1e5]]]), np.array([[1]], np.int32), np.ones((1, 1)))
    np.testing.assert_allclose(loss, 2e5)


@pytest.mark.parametrize("package", PACKAGES)
def test_bfloat16_logits_are_added_up_in_float32(package: str):
    # 300 times log(1000) is 2072.3; in bfloat16 it would be a multiple of 16.
    logits, targets = np.zeros((1, 300, 1000)), np.zeros((1, 300), np.int32)
    loss = call(package, "loss.cross_entropy", logits, targets, np.ones((1, 300)), dtype="bfloat16")
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, 300 * np.log(1000), **FLOAT32_OPERATION)


def test_a_target_counts_inside_its_segment_only():
    segments = np.array([[1, 1, 2, 2, 0, 0], [0, 0, 3, 3, 3, 1]], np.int32)
    weights = agreed("loss.next_token_weights", segments)
    assert weights.tolist() == [[1, 0, 1, 0, 0], [0, 0, 1, 1, 0]]
    assert weights.dtype == np.float32
