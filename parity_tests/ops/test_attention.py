"""Softmax attention at its edges."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gpt_oss import modeling_gpt_oss

from jax_transformer.ops.attention.reference import softmax_attention
from jax_transformer.ops.dropout import Noise
from parity_tests.ops.pairs import PACKAGES, array, operation, tensor
from parity_tests.tolerances import FLOAT32_ANGLE, FLOAT32_MODULE, HALF_BFLOAT16, OPERATION
from torch_reference.ops.attention.reference import softmax_attention as torch_softmax_attention
from torch_reference.ops.dropout import Noise as TorchNoise

SCALE = 0.37


def draw(rng: np.random.Generator, heads: int = 6, kv_heads: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch, length, keys, head_dim, v_dim = 2, 3, 5, 4, 7
    shapes = [(batch, length, heads, head_dim), *((batch, keys, kv_heads, width) for width in (head_dim, v_dim))]
    q, k, v = (rng.normal(size=shape) for shape in shapes)
    return q, k, v


def extras(rng: np.random.Generator) -> dict[str, Any]:
    """Everything that may happen to the scores."""
    return {"softcap": 0.8, "bias": rng.normal(size=(1, 6, 3, 5)), "sinks": rng.normal(size=6)}


def holes(rng: np.random.Generator) -> np.ndarray:
    """A random mask in which every query sees something."""
    allowed = rng.random((2, 3, 5)) < 0.5
    allowed[..., 1] = True
    return allowed


def attend(package: str, *arguments: Any, dtype: str | None = None, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """What is mixed and the probabilities; floating arrays go in as ``dtype``."""
    arrays = [tensor(package, a, dtype if isinstance(a, np.ndarray) and a.dtype.kind == "f" else None) for a in arguments]
    options = {name: tensor(package, value) for name, value in options.items()}
    mixed, probabilities = operation(package, "attention.reference.softmax_attention")(*arrays, **options)
    return array(mixed), array(probabilities)


def same(*arguments: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """The result, after checking that both packages have the same in float64."""
    ours, theirs = (attend(package, *arguments, **options) for package in PACKAGES)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype == np.float64
        np.testing.assert_allclose(other, mine, **OPERATION)
    return ours


def by_definition(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: np.ndarray, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    softcap, bias, sinks = (options.get(name) for name in ("softcap", "bias", "sinks"))
    out, probabilities = np.zeros((*q.shape[:3], v.shape[3])), np.zeros((q.shape[0], q.shape[2], q.shape[1], k.shape[1]))
    group = q.shape[2] // k.shape[2]
    for b, t, n in np.ndindex(*q.shape[:3]):
        seen = np.flatnonzero(allowed[b, t])
        scores = SCALE * k[b, seen, n // group] @ q[b, t, n]
        scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
        weights = np.exp(scores if bias is None else scores + bias[0, n, t, seen])
        weights /= weights.sum() + (0.0 if sinks is None else np.exp(sinks[n]))
        out[b, t, n], probabilities[b, n, t, seen] = weights @ v[b, seen, n // group], weights
    return out, probabilities


@pytest.mark.parametrize("names", [(), ("softcap",), ("bias",), ("sinks",), ("softcap", "bias", "sinks")])
def test_attention_is_its_definition(names: tuple[str, ...], rng: np.random.Generator):
    q, k, v = draw(rng)
    allowed = holes(rng)
    options = {name: value for name, value in extras(rng).items() if name in names}
    got, want = same(q, k, v, allowed, SCALE, **options), by_definition(q, k, v, allowed, **options)
    for mine, definition in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, definition, **OPERATION)


@pytest.mark.parametrize("kv_heads", [1, 2, 3])
def test_a_group_of_query_heads_reads_one_repeated_key_value_head(kv_heads: int, rng: np.random.Generator):
    q, k, v = draw(rng, kv_heads=kv_heads)
    allowed = holes(rng)
    repeated = (np.repeat(x, 6 // kv_heads, axis=2) for x in (k, v))
    got, want = same(q, k, v, allowed, SCALE), same(q, *repeated, allowed, SCALE)
    for grouped, whole in zip(got, want, strict=True):
        np.testing.assert_allclose(grouped, whole, **OPERATION)


@pytest.mark.parametrize("name", ["plain", "extras"])
def test_a_query_that_sees_nothing_gives_zeros_and_finite_gradients(name: str, rng: np.random.Generator):
    q, k, v = draw(rng)
    allowed = holes(rng)
    allowed[1, 2] = False
    options = extras(rng) if name == "extras" else {}
    for out in same(q, k, v, allowed, SCALE, **options):
        assert np.isfinite(out).all()
    mixed, probabilities = same(q, k, v, allowed, SCALE, **options)
    assert not mixed[1, 2].any()
    assert not probabilities[1, :, 2].any()
    assert np.abs(mixed[1, 1]).min() > 0

    arrays = {key: tensor("jax_transformer", value) for key, value in options.items()}
    ours = jax.grad(lambda *x: softmax_attention(*x, jnp.asarray(allowed), SCALE, **arrays)[0].sum(), argnums=(0, 1, 2))
    inputs = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    tensors = {key: tensor("torch_reference", value) for key, value in options.items()}
    torch_softmax_attention(*inputs, torch.tensor(allowed), SCALE, **tensors)[0].sum().backward()
    gradients = ours(q, k, v)
    for gradient, x in zip(gradients, inputs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), gradient, **OPERATION)
    assert not np.asarray(gradients[0])[1, 2].any()


def test_scores_stay_within_the_softcap(rng: np.random.Generator):
    q, k, v = draw(rng)
    everything = np.ones((2, 3, 5), bool)
    _, probabilities = same(100 * q, k, v, everything, SCALE, softcap=0.8)
    ratios = probabilities.max(-1) / probabilities.min(-1)
    assert ratios.max() <= np.exp(2 * 0.8)
    assert ratios.max() > np.exp(2 * 0.7)


def test_a_sink_takes_its_share_and_leaves_ratios_alone(rng: np.random.Generator):
    q, k, v = draw(rng)
    allowed, sinks = holes(rng), rng.normal(size=6)
    plain, with_sinks = same(q, k, v, allowed, SCALE)[1], same(q, k, v, allowed, SCALE, sinks=sinks)[1]
    kept = with_sinks.sum(-1, keepdims=True)
    assert (kept < 1).all()
    assert (kept > 0).all()
    np.testing.assert_allclose(with_sinks, plain * kept, **OPERATION)
    np.testing.assert_allclose(same(q, k, v, allowed, SCALE, sinks=np.full(6, -1e30))[1], plain, **OPERATION)


@pytest.mark.parametrize("sinks", [None, np.full(1, 3.0)])
def test_huge_scores_do_not_overflow(sinks: np.ndarray | None):
    q, k = np.full((1, 1, 1, 2), 1e3), np.stack([np.full((1, 1, 2), 1e3), np.full((1, 1, 2), -1e3)], axis=1)
    v = np.stack([np.full((1, 1, 2), 5.0), np.full((1, 1, 2), 7.0)], axis=1)
    out, _ = same(q, k, v, np.ones((1, 1, 2), bool), 1.0, sinks=sinks)
    np.testing.assert_array_equal(out, np.full((1, 1, 1, 2), 5.0))


@pytest.mark.parametrize("package", PACKAGES)
def test_bfloat16_scores_are_added_up_in_float32(package: str):
    # Scores 256 and 257: in bfloat16 both are 256, and the two keys would share the query evenly.
    q = np.ones((1, 1, 1, 2))
    k = np.array([[256.0, 0.0], [256.0, 1.0]]).reshape(1, 2, 1, 2)
    v = np.array([[0.0, 0.0], [1.0, 1.0]]).reshape(1, 2, 1, 2)
    out, probabilities = attend(package, q, k, v, np.ones((1, 1, 2), bool), 1.0, dtype="bfloat16")
    np.testing.assert_allclose(out, np.full((1, 1, 1, 2), 1 / (1 + np.exp(-1))), rtol=HALF_BFLOAT16)
    assert probabilities.dtype == np.float32


@pytest.mark.parametrize("noise", [Noise(jax.random.key(1)), TorchNoise(torch.tensor(1))])
def test_dropped_probabilities_are_returned_as_they_were(noise: Any, rng: np.random.Generator):
    package = "torch_reference" if isinstance(noise, TorchNoise) else "jax_transformer"
    arguments = (*draw(rng), holes(rng), SCALE)
    plain, dropped = attend(package, *arguments), attend(package, *arguments, drop=(0.5, noise))
    np.testing.assert_array_equal(dropped[1], plain[1])
    assert np.abs(dropped[0] - plain[0]).max() > 0.1


@pytest.mark.parametrize("family", ["gemma2", "gpt_oss"])
def test_softcap_and_sinks_are_those_of_transformers(family: str, rng: np.random.Generator):
    q, k, v = draw(rng)
    allowed = holes(rng)
    file, options = {
        "gemma2": (modeling_gemma2, {"softcap": 0.8}),
        "gpt_oss": (modeling_gpt_oss, {"sinks": rng.normal(size=6)}),
    }[family]
    module = SimpleNamespace(num_key_value_groups=3, training=False, sinks=torch.tensor(options.get("sinks", 0.0)))
    additive = torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~torch.tensor(allowed), -torch.inf)[:, None]
    heads_first = (torch.tensor(x).transpose(1, 2) for x in (q, k, v))
    given = {"softcap": options["softcap"]} if family == "gemma2" else {}
    want = file.eager_attention_forward(module, *heads_first, additive, scaling=SCALE, **given)
    # Gemma's softmax is float32 whatever its input is.
    tolerance = FLOAT32_MODULE if family == "gemma2" else OPERATION
    for mine, other in zip(same(q, k, v, allowed, SCALE, **options), want, strict=True):
        np.testing.assert_allclose(mine, other.numpy(), **tolerance)


def test_complex_rotation_multiplies_by_a_phase(rng: np.random.Generator):
    frequencies = agreed_frequencies(100.0, 6)
    re, im = rng.normal(size=(2, 2, 5, 3, 6))
    positions = rng.integers(0, 50, size=(2, 5))
    want = (re + 1j * im) * np.exp(1j * positions[:, :, None, None] * frequencies)
    for package in PACKAGES:
        arguments = (tensor(package, value) for value in (re, im, positions))
        got_re, got_im = operation(package, "complex_rotation.rotate_complex")(*arguments, frequencies)
        np.testing.assert_allclose(array(got_re) + 1j * array(got_im), want, **OPERATION)


def agreed_frequencies(base: float, head_dim: int) -> np.ndarray:
    """Both halves turn alike: ``base ** (-2 i / head_dim)`` for ``i`` below half of them, twice."""
    half = base ** (-2 * np.arange(head_dim // 2) / head_dim)
    for package in PACKAGES:
        got = operation(package, "complex_rotation.complex_frequencies")(base, head_dim)
        np.testing.assert_allclose(got, np.concatenate([half, half]), **OPERATION)
    return np.concatenate([half, half])


@pytest.mark.parametrize("package", PACKAGES)
def test_complex_angles_are_float32_in_bfloat16(package: str):
    # Position 257 would be 256 in bfloat16, a whole number of turns here.
    re, im = np.ones((1, 1, 1, 2)), np.zeros((1, 1, 1, 2))
    arguments = (tensor(package, value, "bfloat16") for value in (re, im))
    positions, frequencies = tensor(package, np.array([[257]])), np.full(2, 2 * np.pi / 4)
    got_re, got_im = operation(package, "complex_rotation.rotate_complex")(*arguments, positions, frequencies)
    np.testing.assert_allclose(array(got_re), 0.0, **FLOAT32_ANGLE)
    np.testing.assert_allclose(array(got_im), 1.0, **FLOAT32_ANGLE)
