"""Attention over another sequence."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
import torch

from jax_transformer import config
from jax_transformer.ops.dropout import Noise
from parity_tests.nn.twins import Twin, assert_same, run, twins
from parity_tests.ops.pairs import PACKAGES, array
from parity_tests.tolerances import MODULE
from torch_reference.ops.dropout import Noise as TorchNoise

D_MODEL, SOURCE_DIM, LENGTH, KEYS, HEADS = 10, 8, 5, 7, {"num_heads": 6, "num_kv_heads": 2, "head_dim": 4}
QUERIES, SLOTS = (np.arange(length)[None, :] for length in (LENGTH, KEYS))
PADDING = (np.arange(KEYS) < np.array([[KEYS], [4]])).astype(int)
"""Segments of the source: the second row has four tokens."""

VARIANTS = {
    "plain": {"qkv_bias": True, "o_bias": True, "scale": 0.9},
    "capped": {"softcap": 0.8, "sink_logits": True},
    "gated": {"output_gate": "head", "qk_norm": config.QkNorm(norm=config.RMSNorm(), scope="full")},
    "own norms": {"output_gate": "element", "qk_norm": config.QkNorm(norm=config.RMSNorm(), scope="own_heads")},
}


def build(name: str, rng: np.random.Generator, *source_dim: int) -> tuple[Twin, Twin]:
    c = config.CrossAttention(**(HEADS | VARIANTS[name]))
    return twins("nn.attention.cross:CrossAttention", c, D_MODEL, *source_dim, rng=rng)


def read(twin: Twin, x: np.ndarray, source: np.ndarray | None, **options: Any) -> dict[str, np.ndarray]:
    """What the module makes of a source whose second row has padding."""
    mask = twin.context(QUERIES, SLOTS, np.ones((2, LENGTH), int), PADDING, causal=False).mask
    given = None if source is None else twin.tensors(source)[0]
    return run(twin, x, twin.context(QUERIES, QUERIES, source=given, source_mask=mask), **options)[0]


def draw(rng: np.random.Generator, source_dim: int = SOURCE_DIM) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(2, LENGTH, D_MODEL)), rng.normal(size=(2, KEYS, source_dim))


@pytest.mark.parametrize("name", VARIANTS)
def test_both_packages_compute_the_same_and_ignore_padding(name: str, rng: np.random.Generator):
    x, source = draw(rng)
    ours, theirs = (read(twin, x, source) for twin in build(name, rng, SOURCE_DIM))
    assert_same(ours, theirs)
    assert [tap for tap in ours if tap != "gate"] == ["q", "k", "v", "probabilities", "mixed", "output"]
    assert not ours["probabilities"][1, ..., 4:].any()
    assert (ours["probabilities"][1, ..., :4] > 0).all()
    assert (ours["probabilities"][0] > 0).all(), "attention over a source is not causal"


@pytest.mark.parametrize("name", VARIANTS)
def test_known_keys_and_values_serve_as_well_as_their_source(name: str, rng: np.random.Generator):
    x, source = draw(rng)
    for twin in build(name, rng, SOURCE_DIM):
        memory = twin.module.keys_values(twin.tensors(source)[0])
        want = read(twin, x, source)
        np.testing.assert_allclose(array(memory.keys), want["k"], **MODULE)
        assert_same(read(twin, x, None, memory=memory), want)


@pytest.mark.parametrize("name", VARIANTS)
def test_over_its_own_sequence_it_is_self_attention_without_positions(name: str, rng: np.random.Generator):
    x = draw(rng)[0]
    c = config.Softmax(**(HEADS | VARIANTS[name]), position=config.NoPosition())
    for cross, own in zip(build(name, rng), twins("nn.attention.softmax:SoftmaxAttention", c, D_MODEL, rng=rng), strict=True):
        cross.load(own.weights)
        context = cross.context(QUERIES, QUERIES, causal=False, source=cross.tensors(x)[0])
        crossing = replace(context, source_mask=context.mask)
        assert_same(run(cross, x, crossing)[0], run(own, x, context)[0])


def test_cross_attention_is_its_definition(rng: np.random.Generator):
    x, source = draw(rng, D_MODEL)
    twin = build("plain", rng)[1]
    weights, got = twin.weights, read(twin, x, source)
    q, k, v = (
        (given @ weights[f"{name}_proj.weight"].T + weights[f"{name}_proj.bias"]).reshape(2, given.shape[1], -1, 4)
        for name, given in (("q", x), ("k", source), ("v", source))
    )
    k, v = (np.repeat(heads, 3, axis=2) for heads in (k, v))
    share = np.exp(0.9 * np.einsum("BTNH,BSNH->BNTS", q, k)) * PADDING[:, None, None, :]
    mixed = np.einsum("BNTS,BSNH->BTNH", share / share.sum(-1, keepdims=True), v).reshape(2, LENGTH, -1)
    want = mixed @ weights["o_proj.weight"].T + weights["o_proj.bias"]
    np.testing.assert_allclose(got["output"], want, **MODULE)


@pytest.mark.parametrize("package", PACKAGES)
def test_dropout_needs_noise(package: str, rng: np.random.Generator):
    x, source = draw(rng)
    c = config.CrossAttention(**HEADS, dropout=0.5)
    twin = twins("nn.attention.cross:CrossAttention", c, D_MODEL, SOURCE_DIM, rng=rng)[PACKAGES.index(package)]
    noise = Noise(jax.random.key(1)) if package == "jax_transformer" else TorchNoise(torch.tensor(1))
    plain, dropped = read(twin, x, source), read(twin, x, source, noise=noise)
    np.testing.assert_allclose(dropped["probabilities"], plain["probabilities"], **MODULE)
    assert np.abs(dropped["mixed"] - plain["mixed"]).max() > 0.1
