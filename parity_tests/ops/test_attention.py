"""Softmax attention at its edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_transformer.ops.attention.reference import softmax_attention
from parity_tests.ops.pairs import EXACT, PACKAGES, agreed, call
from torch_reference.ops.attention.reference import softmax_attention as torch_softmax_attention

ATTENTION = "attention.reference.softmax_attention"
SCALE = 0.37


def draw(rng: np.random.Generator, heads: int = 6, kv_heads: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch, length, keys, head_dim = 2, 3, 5, 4
    shapes = [(batch, length, heads, head_dim), *[(batch, keys, kv_heads, head_dim)] * 2]
    q, k, v = (rng.normal(size=shape) for shape in shapes)
    return q, k, v


def holes(rng: np.random.Generator) -> np.ndarray:
    """A random mask in which every query sees something."""
    allowed = rng.random((2, 3, 5)) < 0.5
    allowed[..., 1] = True
    return allowed


def by_definition(q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    out = np.zeros(q.shape)
    group = q.shape[2] // k.shape[2]
    for b, t, n in np.ndindex(*q.shape[:3]):
        seen = np.flatnonzero(allowed[b, t])
        weights = np.exp(SCALE * k[b, seen, n // group] @ q[b, t, n])
        out[b, t, n] = weights @ v[b, seen, n // group] / weights.sum()
    return out


def test_attention_is_its_definition(rng: np.random.Generator):
    q, k, v = draw(rng)
    allowed = holes(rng)
    np.testing.assert_allclose(agreed(ATTENTION, q, k, v, allowed, SCALE), by_definition(q, k, v, allowed), **EXACT)


@pytest.mark.parametrize("kv_heads", [1, 2, 3])
def test_a_group_of_query_heads_reads_one_repeated_key_value_head(kv_heads: int, rng: np.random.Generator):
    q, k, v = draw(rng, kv_heads=kv_heads)
    allowed = holes(rng)
    repeated = (np.repeat(x, 6 // kv_heads, axis=2) for x in (k, v))
    np.testing.assert_allclose(
        agreed(ATTENTION, q, k, v, allowed, SCALE), agreed(ATTENTION, q, *repeated, allowed, SCALE), **EXACT
    )


def test_a_query_that_sees_nothing_gives_zeros_and_finite_gradients(rng: np.random.Generator):
    q, k, v = draw(rng)
    allowed = holes(rng)
    allowed[1, 2] = False
    out = agreed(ATTENTION, q, k, v, allowed, SCALE)
    assert not out[1, 2].any()
    assert np.abs(out[1, 1]).min() > 0

    ours = jax.grad(lambda *x: softmax_attention(*x, jnp.asarray(allowed), SCALE).sum(), argnums=(0, 1, 2))(q, k, v)
    inputs = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    torch_softmax_attention(*inputs, torch.tensor(allowed), SCALE).sum().backward()
    for gradient, x in zip(ours, inputs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), gradient, **EXACT)
    assert not np.asarray(ours[0])[1, 2].any()


def test_huge_scores_do_not_overflow():
    q, k = np.full((1, 1, 1, 2), 1e3), np.stack([np.full((1, 1, 2), 1e3), np.full((1, 1, 2), -1e3)], axis=1)
    v = np.stack([np.full((1, 1, 2), 5.0), np.full((1, 1, 2), 7.0)], axis=1)
    out = agreed(ATTENTION, q, k, v, np.ones((1, 1, 2), bool), 1.0)
    np.testing.assert_array_equal(out, np.full((1, 1, 1, 2), 5.0))


@pytest.mark.parametrize("package", PACKAGES)
def test_bfloat16_scores_are_added_up_in_float32(package: str):
    # Scores 256 and 257: in bfloat16 both are 256, and the two keys would share the query evenly.
    q = np.ones((1, 1, 1, 2))
    k = np.array([[256.0, 0.0], [256.0, 1.0]]).reshape(1, 2, 1, 2)
    v = np.array([[0.0, 0.0], [1.0, 1.0]]).reshape(1, 2, 1, 2)
    out = call(package, ATTENTION, q, k, v, np.ones((1, 1, 2), bool), 1.0, dtype="bfloat16")
    np.testing.assert_allclose(out, np.full((1, 1, 1, 2), 1 / (1 + np.exp(-1))), rtol=2**-8)
