"""Normalisation where it is easy to lose digits."""

import numpy as np
import pytest

from parity_tests.ops.pairs import EXACT, PACKAGES, agreed, call


def layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray | None, eps: float) -> np.ndarray:
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * scale
    return normed if bias is None else normed + bias


@pytest.mark.parametrize("biased", [True, False])
def test_layer_norm_is_its_formula(biased: bool, rng: np.random.Generator):
    x, scale, bias = rng.normal(size=(2, 3, 8)), rng.normal(size=8), rng.normal(size=8) if biased else None
    np.testing.assert_allclose(agreed("norm.layer_norm", x, scale, bias, 0.1), layer_norm(x, scale, bias, 0.1), **EXACT)


def test_rms_norm_is_its_formula(rng: np.random.Generator):
    x, scale = rng.normal(size=(2, 3, 8)), rng.normal(size=8)
    want = x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.1) * scale
    np.testing.assert_allclose(agreed("norm.rms_norm", x, scale, 0.1), want, **EXACT)


@pytest.mark.parametrize("package", PACKAGES)
def test_layer_norm_survives_a_large_mean(package: str, rng: np.random.Generator):
    # mean(x^2) - mean(x)^2 in float32 would have an error of about 1e8 * 6e-8 = 6 in a variance of 1.
    x = (1e4 + rng.normal(size=(4, 64))).astype(np.float32)
    got = call(package, "norm.layer_norm", x, np.ones(64, np.float32), None, 1e-5)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, layer_norm(x.astype(np.float64), np.ones(64), None, 1e-5), atol=2e-3)


@pytest.mark.parametrize("package", PACKAGES)
def test_bfloat16_statistics_are_taken_in_float32(package: str):
    # 2048 squares of 1: a sum kept in bfloat16 stops at 256.
    got = call(package, "norm.rms_norm", np.ones((1, 2048)), np.ones(2048), 1e-6, dtype="bfloat16")
    np.testing.assert_array_equal(got, np.ones((1, 2048)))


@pytest.mark.parametrize("package", PACKAGES)
def test_rms_norm_casts_back_before_it_scales(package: str):
    # 1 / sqrt(5 / 2) = 0.63246 becomes 0.6328125, and that times 1.015625 becomes 0.64453125; in float32 it would be 0.6423
    # and become 0.640625.
    got = call(package, "norm.rms_norm", np.array([[1.0, 2.0]]), np.full(2, 1.015625), 1e-6, dtype="bfloat16")
    np.testing.assert_array_equal(got, [[0.64453125, 1.2890625]])
