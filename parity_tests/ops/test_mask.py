"""Who sees whom."""

import numpy as np
import pytest

from parity_tests.ops.pairs import PACKAGES, agreed, array, operation, tensor


def allowed(length: int, segments: np.ndarray | None = None, kind: str = "causal", **sight: int | None) -> np.ndarray:
    """The mask of that kind, after checking that both packages have the same."""
    ours, theirs = (
        array(operation(package, f"mask.{kind}_mask")(length, tensor(package, segments)).allowed(**sight))
        for package in PACKAGES
    )
    np.testing.assert_array_equal(theirs, ours)
    return ours


@pytest.mark.parametrize("window", [1, 2, 3, 6, 7, 100])
def test_a_window_is_that_many_tokens_and_the_last_is_the_token_itself(window: int):
    for t, row in enumerate(allowed(6, window=window)[0]):
        np.testing.assert_array_equal(np.flatnonzero(row), np.arange(max(0, t + 1 - window), t + 1))


def test_without_a_window_everything_before_is_seen():
    np.testing.assert_array_equal(allowed(5)[0], np.tri(5, dtype=bool))


def test_segments_are_strangers_and_padding_is_nobody():
    segments = np.array([[1, 1, 2, 2, 0, 0], [0, 3, 3, 3, 3, 3]], np.int32)
    seen = allowed(6, segments)
    for b, t, s in np.ndindex(*seen.shape):
        assert seen[b, t, s] == (s <= t and segments[b, t] == segments[b, s] != 0)


def test_a_window_ends_with_its_segment():
    seen = allowed(6, np.array([[1, 1, 2, 2, 2, 2]], np.int32), window=2)[0]
    assert [np.flatnonzero(row).tolist() for row in seen] == [[0], [0, 1], [2], [2, 3], [3, 4], [4, 5]]


@pytest.mark.parametrize("size", [1, 2, 4, 7, 8, 100])
@pytest.mark.parametrize("kind", ["causal", "bidirectional"])
def test_a_token_sees_its_own_chunk_alone(kind: str, size: int):
    for t, row in enumerate(allowed(7, kind=kind, chunk_size=size)[0]):
        first = t - t % size
        np.testing.assert_array_equal(
            np.flatnonzero(row), np.arange(first, t + 1 if kind == "causal" else min(first + size, 7))
        )


def test_chunks_are_counted_from_the_beginning_of_a_segment():
    seen = allowed(7, np.array([[0, 1, 1, 1, 2, 2, 2]], np.int32), chunk_size=2)[0]
    assert [np.flatnonzero(row).tolist() for row in seen] == [[], [1], [1, 2], [3], [4], [4, 5], [6]]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_mask_has_the_positions_of_its_segments(package: str):
    mask = operation(package, "mask.causal_mask")(4, tensor(package, np.array([[1, 1, 2, 2]], np.int32)))
    assert mask.q_positions.tolist() == mask.k_positions.tolist() == [[0, 1, 0, 1]]


def test_positions_restart_wherever_the_segment_changes():
    segments = np.array([[1, 1, 1, 2, 2, 1], [0, 0, 7, 7, 0, 0], [5, 5, 5, 5, 5, 5], [1, 2, 3, 4, 5, 6]], np.int32)
    positions = agreed("mask.segment_positions", segments)
    assert positions.dtype == np.int32
    assert positions.tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 0, 1, 0, 1], [0, 1, 2, 3, 4, 5], [0] * 6]


def test_one_token_is_at_position_zero():
    assert agreed("mask.segment_positions", np.array([[4]], np.int32)).tolist() == [[0]]
