"""Biases by distance: ALiBi and T5's buckets."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from parity_tests.ops.pairs import PACKAGES, agreed, array, operation, tensor
from parity_tests.tolerances import FLOAT32_OPERATION, OPERATION

HEADS = [1, 2, 3, 6, 8, 12, 16, 20, 25]


def slopes(num_heads: int, max_bias: float) -> np.ndarray:
    """Those of both packages, checked to be the same."""
    ours, theirs = (operation(package, "position_bias.alibi_slopes")(num_heads, max_bias) for package in PACKAGES)
    np.testing.assert_array_equal(theirs, ours)
    assert ours.shape == (num_heads,)
    return ours


def alibi(package: str, offsets: np.ndarray, by: np.ndarray, dtype: str) -> np.ndarray:
    kind = dtype if package == "jax_transformer" else getattr(torch, dtype)
    return array(operation(package, "position_bias.alibi")(tensor(package, offsets), by, kind))


@pytest.mark.parametrize("num_heads", HEADS)
def test_slopes_are_those_of_bloom(num_heads: int):
    want = build_alibi_tensor(torch.ones(1, 2), num_heads, torch.float32)[:, 0, 1].numpy()
    np.testing.assert_allclose(slopes(num_heads, 8.0), want, **FLOAT32_OPERATION)


@pytest.mark.parametrize("num_heads", HEADS)
@pytest.mark.parametrize("max_bias", [8.0, 6.0, 12.0])
def test_slopes_are_those_of_mpt(num_heads: int, max_bias: float):
    want = -build_mpt_alibi_tensor(num_heads, 2, max_bias)[:, 0, 0].numpy()
    np.testing.assert_allclose(slopes(num_heads, max_bias), want, **FLOAT32_OPERATION)


def test_alibi_falls_with_the_distance_in_either_direction(rng: np.random.Generator):
    offsets, by = rng.integers(-900, 900, (2, 4, 5)).astype(np.int32), slopes(3, 8.0)
    ours, theirs = (alibi(package, offsets, by, "float64") for package in PACKAGES)
    assert ours.dtype == theirs.dtype == np.float64
    np.testing.assert_allclose(theirs, ours, **OPERATION)
    np.testing.assert_allclose(ours, -by[None, :, None, None] * np.abs(offsets)[:, None], **OPERATION)


@pytest.mark.parametrize("package", PACKAGES)
def test_distances_do_not_collide_in_16_bits(package: str):
    # 1000 and 1001 are the same number in bfloat16.
    got = alibi(package, np.array([[[-1000, -1001]]], np.int32), np.array([0.5]), "bfloat16")
    assert got.dtype == np.float32
    assert got.tolist() == [[[[-500.0, -500.5]]]]


@pytest.mark.parametrize(
    ("num_buckets", "max_distance"), [(32, 128), (32, 20), (64, 256), (8, 20), (4, 3), (6, 50), (128, 1000), (40, 200)]
)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_those_of_t5(num_buckets: int, max_distance: int, bidirectional: bool):
    offsets = np.arange(-300, 301, dtype=np.int32).reshape(1, 1, -1)
    got = agreed("position_bias.relative_buckets", offsets, num_buckets, max_distance, bidirectional)
    want = T5Attention._relative_position_bucket(torch.tensor(offsets), bidirectional, num_buckets, max_distance)
    np.testing.assert_array_equal(got, want.numpy())
    assert len(np.unique(got)) <= num_buckets


def test_the_bias_is_that_of_t5():
    table = torch.nn.Embedding(32, 3, dtype=torch.float64)
    released = SimpleNamespace(
        relative_attention_bias=table,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=128,
        is_decoder=False,
        _relative_position_bucket=T5Attention._relative_position_bucket,
    )
    want = T5Attention.compute_bias(released, 150, 170).detach().numpy()
    offsets = (np.arange(170)[None, :] - np.arange(150)[:, None]).astype(np.int32)[None]
    buckets = agreed("position_bias.relative_buckets", offsets, 32, 128, True)
    got = agreed("position_bias.bucket_bias", table.weight.detach().numpy(), buckets)
    assert got.shape == (1, 3, 150, 170)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_bucket_s_gradient_is_the_sum_over_its_places(package: str, rng: np.random.Generator):
    table, buckets, weights = rng.normal(size=(5, 3)), rng.integers(0, 5, (2, 4, 6)), rng.normal(size=(2, 3, 4, 6))
    got = gradient(package, operation(package, "position_bias.bucket_bias"), table, buckets, weights)
    want = np.stack([np.where(buckets[:, None] == row, weights, 0.0).sum((0, 2, 3)) for row in range(5)])
    np.testing.assert_allclose(got, want, **OPERATION)


def gradient(package: str, bias: Any, table: np.ndarray, buckets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    if package == "jax_transformer":
        return np.asarray(jax.grad(lambda own: (bias(own, jnp.asarray(buckets)) * weights).sum())(jnp.asarray(table)))
    own = torch.tensor(table, requires_grad=True)
    (bias(own, torch.tensor(buckets)) * torch.tensor(weights)).sum().backward()
    assert own.grad is not None
    return own.grad.numpy()
