"""Normalisation: the formulas, where it is easy to lose digits, and where the result is rounded."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
from transformers.models.qwen3_next.modeling_qwen3_next import l2norm

from parity_tests.ops.pairs import PACKAGES, agreed, array, call, operation, tensor
from parity_tests.tolerances import DIFFERENCES, LARGE_MEAN, OPERATION


def layer_norm(x: np.ndarray, scale: np.ndarray | None, bias: np.ndarray | None, eps: float) -> np.ndarray:
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    normed = normed if scale is None else normed * scale
    return normed if bias is None else normed + bias


def gradient(package: str, path: str, x: np.ndarray, *arguments: Any) -> np.ndarray:
    """Of the sum of the result, with respect to ``x``."""
    function, rest = operation(package, path), [tensor(package, argument) for argument in arguments]
    if package == "jax_transformer":
        return np.asarray(jax.grad(lambda x: function(x, *rest).sum())(jnp.asarray(x)))
    leaf = torch.tensor(x, requires_grad=True)
    function(leaf, *rest).sum().backward()
    assert leaf.grad is not None
    return leaf.grad.numpy()


@pytest.mark.parametrize("shape", [None, (8,), (3, 8)])
@pytest.mark.parametrize("biased", [True, False])
def test_layer_norm_is_its_formula(shape: tuple[int, ...] | None, biased: bool, rng: np.random.Generator):
    x = rng.normal(size=(2, 5, 3, 8))
    scale, bias = None if shape is None else rng.normal(size=shape), rng.normal(size=shape or (8,)) if biased else None
    np.testing.assert_allclose(agreed("norm.layer_norm", x, scale, bias, 0.1), layer_norm(x, scale, bias, 0.1), **OPERATION)


@pytest.mark.parametrize("cast", ["before_weight", "after_weight"])
@pytest.mark.parametrize("shape", [None, (8,), (3, 8)])
def test_rms_norm_is_its_formula(shape: tuple[int, ...] | None, cast: str, rng: np.random.Generator):
    x, scale = rng.normal(size=(2, 5, 3, 8)), None if shape is None else rng.normal(size=shape)
    want = x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.1) * (1.0 if scale is None else scale)
    np.testing.assert_allclose(agreed("norm.rms_norm", x, scale, 0.1, cast), want, **OPERATION)


def test_scale_norm_divides_by_the_length_plus_epsilon(rng: np.random.Generator):
    x, weight = rng.normal(size=(2, 3, 8)), rng.normal(size=1)
    want = weight * x / (np.linalg.norm(x, axis=-1, keepdims=True) + 0.1)
    np.testing.assert_allclose(agreed("norm.scale_norm", x, weight, 0.1), want, **OPERATION)


def test_scale_norm_divides_by_the_clamped_length(rng: np.random.Generator):
    x, weight = rng.normal(size=(2, 3, 8)) * np.array([1e-3, 1.0])[:, None, None], rng.normal(size=1)
    length = torch.norm(torch.tensor(x), dim=-1, keepdim=True)
    assert {bool(short) for short in (length < 0.1).flatten()} == {True, False}
    want = x * (weight / length.clamp(min=0.1).numpy())  # the paper's code
    np.testing.assert_allclose(agreed("norm.scale_norm", x, weight, 0.1, "clamp"), want, **OPERATION)


def test_l2_norm_is_its_formula(rng: np.random.Generator):
    x = rng.normal(size=(2, 3, 8))
    got = agreed("norm.l2_norm", x, 0.1)
    np.testing.assert_allclose(got, x / np.sqrt((x**2).sum(-1, keepdims=True) + 0.1), **OPERATION)
    np.testing.assert_allclose(got, l2norm(torch.tensor(x), eps=0.1), **OPERATION)


@pytest.mark.parametrize("package", PACKAGES)
def test_layer_norm_survives_a_large_mean(package: str, rng: np.random.Generator):
    # mean(x^2) - mean(x)^2 in float32 would have an error of about 1e8 * 6e-8 = 6 in a variance of 1.
    x = (1e4 + rng.normal(size=(4, 64))).astype(np.float32)
    got = call(package, "norm.layer_norm", x, np.ones(64, np.float32), None, 1e-5)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, layer_norm(x.astype(np.float64), np.ones(64), None, 1e-5), **LARGE_MEAN)
    np.testing.assert_allclose(got, torch.nn.functional.layer_norm(torch.tensor(x), (64,)), **LARGE_MEAN)


SUMS = [
    ("norm.rms_norm", (np.ones(2048), 1e-6), 1.0),
    ("norm.scale_norm", (np.ones(1), 1e-6), 2048**-0.5),
    ("norm.l2_norm", (1e-6,), 2048**-0.5),
]


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(("path", "arguments", "want"), SUMS, ids=[path for path, _, _ in SUMS])
def test_bfloat16_statistics_are_taken_in_float32(package: str, path: str, arguments: tuple, want: float):
    # 2048 squares of 1: a sum kept in bfloat16 stops at 256.
    got = call(package, path, np.ones((1, 2048)), *arguments, dtype="bfloat16")
    np.testing.assert_array_equal(got, np.full((1, 2048), torch.tensor(want).bfloat16().float()))


ROUNDED_ONCE = [
    ("norm.rms_norm", (np.array([1.5, 1.0, 0.75]), 1e-6, "after_weight")),
    ("norm.layer_norm", (np.array([1.5, 1.0, 0.75]), np.array([0.5, -1.0, 3.0]), 1e-6)),
    ("norm.scale_norm", (np.array([1.375]), 1e-6)),
    ("norm.l2_norm", (1e-6,)),
]


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(("path", "arguments"), ROUNDED_ONCE, ids=[path for path, _ in ROUNDED_ONCE])
def test_bfloat16_results_are_rounded_once(package: str, path: str, arguments: tuple, rng: np.random.Generator):
    x = torch.tensor(rng.normal(size=(50, 3))).bfloat16().double().numpy()
    want = torch.tensor(call(package, path, x, *arguments)).bfloat16().float().numpy()
    np.testing.assert_array_equal(call(package, path, x, *arguments, dtype="bfloat16"), want)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(("cast", "want"), [("before_weight", 0.64453125), ("after_weight", 0.640625)])
def test_rms_norm_casts_back_where_it_is_told(package: str, cast: str, want: float):
    # 1 / sqrt(5 / 2) = 0.63246 becomes 0.6328125, and that times 1.015625 becomes 0.64453125; in float32 it would be 0.6423
    # and become 0.640625.
    got = call(package, "norm.rms_norm", np.array([[1.0, 2.0]]), np.full(2, 1.015625), 1e-6, cast, dtype="bfloat16")
    np.testing.assert_array_equal(got, [[want, 2 * want]])


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("kind", [LlamaRMSNorm, Olmo2RMSNorm, GemmaRMSNorm, CohereLayerNorm])
def test_bfloat16_results_are_those_of_transformers_bit_for_bit(package: str, kind: type, rng: np.random.Generator):
    module = kind(64, eps=1e-5).bfloat16()
    x, weight = torch.tensor(rng.normal(size=(2, 5, 64))).bfloat16(), torch.tensor(rng.normal(size=64)).bfloat16()
    module.weight.data = weight
    scale = tensor(package, (1.0 + weight.float() if kind is GemmaRMSNorm else weight.float()).numpy())
    own_x = tensor(package, x.float().numpy(), "bfloat16")
    if kind is CohereLayerNorm:
        got = operation(package, "norm.layer_norm")(own_x, scale, None, 1e-5)
    else:
        cast = "before_weight" if kind is LlamaRMSNorm else "after_weight"
        got = operation(package, "norm.rms_norm")(own_x, scale, 1e-5, cast)
    np.testing.assert_array_equal(array(got), array(module(x)))


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("rule", ["add", "clamp"])
def test_scale_norm_has_a_slope_of_weight_over_epsilon_at_zero(package: str, rule: str):
    got = gradient(package, "norm.scale_norm", np.zeros((2, 8)), np.array([3.0]), 1e-2, rule)
    np.testing.assert_allclose(got, np.full((2, 8), 300.0))


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("norm.rms_norm", (np.ones(8), 1e-6)),
        ("norm.layer_norm", (np.ones(8), np.ones(8), 1e-6)),
        ("norm.l2_norm", (1e-6,)),
    ],
)
def test_gradients_are_finite_at_zero_and_at_tiny_values(package: str, path: str, arguments: tuple):
    rows = np.array([0.0, 1e-30, 1e-20])[:, None] * np.arange(1.0, 9.0)
    assert np.isfinite(gradient(package, path, rows.astype(np.float32), *arguments)).all()


@pytest.mark.parametrize("path", ["norm.scale_norm", "norm.rms_norm", "norm.layer_norm", "norm.l2_norm"])
def test_gradients_are_those_of_differences(path: str, rng: np.random.Generator):
    x, step = rng.normal(size=(1, 8)), 1e-6
    options = {
        "norm.scale_norm": (np.array([1.7]), 0.1),
        "norm.rms_norm": (rng.normal(size=8), 0.1, "after_weight"),
        "norm.layer_norm": (rng.normal(size=8), rng.normal(size=8), 0.1),
        "norm.l2_norm": (0.1,),
    }[path]
    for package in PACKAGES:
        ends = [call(package, path, x + sign * step * np.eye(8), *options).sum(-1) for sign in (1, -1)]
        np.testing.assert_allclose(gradient(package, path, x, *options)[0], (ends[0] - ends[1]) / (2 * step), **DIFFERENCES)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(
    ("path", "arguments"),
    [("norm.scale_norm", (np.ones(1), 1e-5)), ("norm.scale_norm", (np.ones(1), 1e-5, "clamp")), ("norm.l2_norm", (1e-5,))],
)
def test_a_value_that_is_not_a_number_is_not_hidden(package: str, path: str, arguments: tuple):
    assert np.isnan(call(package, path, np.array([[1.0, np.nan, 2.0]]), *arguments)).all()
