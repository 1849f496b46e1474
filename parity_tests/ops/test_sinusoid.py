"""Sines and cosines of positions."""

import numpy as np
import pytest
import torch
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding
from transformers.models.pegasus.modeling_pegasus import PegasusSinusoidalPositionalEmbedding
from transformers.models.xglm.modeling_xglm import XGLMSinusoidalPositionalEmbedding

from parity_tests.ops.pairs import PACKAGES, array, operation, tensor
from parity_tests.tolerances import FLOAT32_MODULE, FLOAT32_OPERATION, HALF_BFLOAT16, OPERATION

DIM, LENGTH = 10, 40


def vectors(package: str, positions: np.ndarray, layout: str, denominator: str, dtype: str = "float64") -> np.ndarray:
    frequencies = operation(package, "sinusoid.sinusoid_frequencies")(10_000.0, DIM, denominator)
    assert frequencies.dtype == np.float64
    kind = dtype if package == "jax_transformer" else getattr(torch, dtype)
    return array(operation(package, "sinusoid.sinusoid")(tensor(package, positions), frequencies, layout, kind))


def agreed(positions: np.ndarray, layout: str, denominator: str) -> np.ndarray:
    """In float64, after checking that both packages have the same."""
    ours, theirs = (vectors(package, positions, layout, denominator) for package in PACKAGES)
    assert ours.dtype == theirs.dtype == np.float64
    np.testing.assert_allclose(theirs, ours, **OPERATION)
    return ours


def counted(start: int = 0) -> np.ndarray:
    return np.arange(start, LENGTH, dtype=np.int32)[None]


def test_interleaved_is_the_formula_of_the_paper():
    got = agreed(counted(), "interleaved", "half")[0]
    for position in range(LENGTH):
        for i in range(DIM // 2):
            angle = position / 10_000.0 ** (2 * i / DIM)
            np.testing.assert_allclose(got[position, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], **OPERATION)


@pytest.mark.parametrize("released", [MarianSinusoidalPositionalEmbedding, PegasusSinusoidalPositionalEmbedding])
def test_halves_are_those_of_marian_and_pegasus(released: type):
    want = released(LENGTH, DIM).create_weight().numpy()
    np.testing.assert_allclose(agreed(counted(), "halves", "half")[0], want, **FLOAT32_OPERATION)


def test_halves_over_one_less_are_those_of_xglm():
    want = XGLMSinusoidalPositionalEmbedding.get_embedding(LENGTH, DIM).numpy()
    np.testing.assert_allclose(agreed(counted(), "halves", "half_minus_one")[0], want, **FLOAT32_MODULE)
    assert np.abs(want - agreed(counted(), "halves", "half")[0]).max() > 0.1


def test_rows_and_negative_positions_are_positions_like_others():
    positions = np.array([[-1, 0, 5], [1000, 3, 5]], np.int32)
    got = agreed(positions, "halves", "half")
    assert got.shape == (2, 3, DIM)
    np.testing.assert_array_equal(got[0, 2], got[1, 2])
    np.testing.assert_allclose(got[0, 0, 0], np.sin(-1.0))


def test_bfloat16_vectors_are_those_of_wide_angles():
    # 1000 and 1001 are the same number in bfloat16.
    positions = np.array([[1000, 1001]], np.int32)
    ours, theirs = (vectors(package, positions, "interleaved", "half", "bfloat16") for package in PACKAGES)
    np.testing.assert_array_equal(theirs, ours)
    np.testing.assert_allclose(ours[0, :, 0], np.sin([1000.0, 1001.0]), atol=HALF_BFLOAT16)
