"""Position modules: every config does what transformers does, in both packages, for each token's own sequence."""

from typing import Any

import jax
import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from jax_transformer import config
from jax_transformer.nn.context import Context
from jax_transformer.nn.params import Maker
from jax_transformer.nn.position import T5Bias
from jax_transformer.ops.mask import causal_mask
from parity_tests.nn.twins import Twin, twins
from parity_tests.ops.pairs import array, operation
from parity_tests.tolerances import FLOAT32_ANGLE, FLOAT32_OPERATION, MODULE, OPERATION, SEQUENCE
from torch_reference.nn.context import Context as TorchContext
from torch_reference.nn.params import Maker as TorchMaker
from torch_reference.nn.position import T5Bias as TorchT5Bias
from torch_reference.ops.mask import causal_mask as torch_causal_mask

HEADS, HEAD, ROTARY, ORIGINAL = 3, 16, 12, 48
SHORT, LONG = (1.0, 1.1, 1.2, 1.5, 2.0, 3.0), (1.0, 1.5, 2.0, 4.0, 6.0, 9.0)
L0 = {"original_length": ORIGINAL}
HUB_L0 = {"original_max_position_embeddings": ORIGINAL}

SCALINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "none": (None, {"rope_type": "linear", "factor": 1.0}),
    "linear": (config.LinearScaling(factor=4.0), {"rope_type": "linear", "factor": 4.0}),
    "dynamic_ntk": (config.DynamicNtkScaling(factor=4.0, **L0), {"rope_type": "dynamic", "factor": 4.0}),
    "yarn": (config.YarnScaling(factor=4.0, **L0), {"rope_type": "yarn", "factor": 4.0, **HUB_L0}),
    "yarn_all": (
        config.YarnScaling(factor=4.0, beta_fast=3.0, beta_slow=0.1, truncate=False, attention_factor=1.3, **L0),
        {"rope_type": "yarn", "factor": 4.0, "beta_fast": 3.0, "beta_slow": 0.1, "truncate": False, "attention_factor": 1.3}
        | HUB_L0,
    ),
    "llama3": (
        config.Llama3Scaling(factor=4.0, low_frequency_factor=0.2, high_frequency_factor=3.0, **L0),
        {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 0.2, "high_freq_factor": 3.0, **HUB_L0},
    ),
    "longrope": (
        config.LongRopeScaling(factor=4.0, short_factors=SHORT, long_factors=LONG, **L0),
        {"rope_type": "longrope", "factor": 4.0, "short_factor": list(SHORT), "long_factor": list(LONG), **HUB_L0},
    ),
    "longrope_attention": (
        config.LongRopeScaling(factor=4.0, short_factors=SHORT, long_factors=LONG, attention_factor=0.8, **L0),
        {"rope_type": "longrope", "factor": 4.0, "short_factor": list(SHORT), "long_factor": list(LONG), **HUB_L0}
        | {"attention_factor": 0.8},
    ),
}
NTK = config.NtkScaling(factor=4.0)
ALL = {name: scaling for name, (scaling, _) in SCALINGS.items()} | {"ntk": NTK}


def rope(scaling: Any, layout: Any = "half", base: float = 10_000.0) -> config.Rope:
    return config.Rope(base=base, fraction=ROTARY / HEAD, layout=layout, scaling=scaling)


def mask_of(twin: Twin, length: int, segments: np.ndarray | None = None, causal: bool = True) -> Any:
    """Of a sequence over itself, positions counted within segments."""
    if segments is None:
        counted = np.arange(length)[None]
        return twin.context(counted, counted, causal=causal)
    starts = np.maximum.accumulate(np.where(np.diff(segments, prepend=-1) != 0, np.arange(length), 0), axis=1)
    counted = np.arange(length)[None] - starts
    return twin.context(counted, counted, segments, segments, causal=causal)


def biases(twin: Twin, context: Any) -> np.ndarray:
    """What the module adds to the scores."""
    return array(twin.module.bias(context).at(context.mask.offsets()))


def rotated(twin: Twin, x: np.ndarray, segments: np.ndarray | None = None) -> np.ndarray:
    """Compiled in JAX: the lengths are known to the device alone."""

    def rotate(x: Any, context: Any) -> Any:
        return twin.module.rotate(x, context.mask)

    rotate = jax.jit(rotate) if twin.package == "jax_transformer" else rotate
    return array(rotate(*twin.tensors(x), mask_of(twin, x.shape[1], segments)))


def both(c: config.Rope, x: np.ndarray, segments: np.ndarray | None = None) -> np.ndarray:
    """The rotated ``x``, after checking that both packages have the same."""
    each = twins("nn.position:POSITION:", c, (HEADS, HEAD), rng=np.random.default_rng(0))
    ours, theirs = (rotated(twin, x, segments) for twin in each)
    np.testing.assert_allclose(theirs, ours, **OPERATION)
    return ours


def released(parameters: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """What transformers makes of the dimensions that rotate."""
    rope = {"rope_theta": 10_000.0, **parameters}
    c = LlamaConfig(head_dim=ROTARY, rope_parameters=rope, max_position_embeddings=ORIGINAL)
    q = torch.tensor(x, dtype=torch.float32)[..., :ROTARY].transpose(1, 2)
    cos, sin = LlamaRotaryEmbedding(c)(q, torch.arange(x.shape[1])[None])
    turned = apply_rotary_pos_emb(q, q, cos, sin)[0].transpose(1, 2)
    return np.concatenate([turned.numpy(), x[..., ROTARY:]], -1)


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("length", [20, 48, 49, 130])
def test_rope_is_that_of_transformers(name: str, length: int, rng: np.random.Generator):
    scaling, parameters = SCALINGS[name]
    x = rng.normal(size=(1, length, HEADS, HEAD))
    np.testing.assert_allclose(both(rope(scaling), x), released(parameters, x), **FLOAT32_ANGLE)


def test_every_scaling_changes_a_long_sequence(rng: np.random.Generator):
    x = rng.normal(size=(1, 130, HEADS, HEAD))
    results = [both(rope(scaling), x) for scaling in ALL.values()]
    for i, one in enumerate(results):
        assert all(np.abs(one - other).max() > 0.1 for other in results[:i])


def test_static_ntk_raises_the_base(rng: np.random.Generator):
    x = rng.normal(size=(1, 30, HEADS, HEAD))
    base = 10_000.0 * 4.0 ** (ROTARY / (ROTARY - 2))
    np.testing.assert_allclose(both(rope(NTK), x), both(rope(None, base=base), x), **MODULE)


def test_rope_pairs_dimensions_by_its_layout(rng: np.random.Generator):
    x = rng.normal(size=(1, 9, HEADS, HEAD))
    order = [*range(0, ROTARY, 2), *range(1, ROTARY, 2), *range(ROTARY, HEAD)]
    half, interleaved = both(rope(None), x[..., order]), both(rope(None, "interleaved"), x)
    np.testing.assert_allclose(half, interleaved[..., order], **OPERATION)


@pytest.mark.parametrize("layout", ["half", "half_reversed", "interleaved"])
@pytest.mark.parametrize("name", ALL)
def test_scores_depend_on_the_distance_alone(name: str, layout: str, rng: np.random.Generator):
    vectors = rng.normal(size=(2, 1, 1, HEADS, HEAD))
    q, k = (both(rope(ALL[name], layout), np.tile(v, (1, 60, 1, 1)))[0] for v in vectors)
    scores = np.einsum("TNH,SNH->NTS", q, k)
    for distance in (0, 1, 17):
        diagonal = np.diagonal(scores, -distance, 1, 2)
        np.testing.assert_allclose(diagonal, np.broadcast_to(diagonal[:, :1], diagonal.shape), **SEQUENCE)
    assert np.abs(scores[:, 20, 3] - scores[:, 20, 20]).max() > 1e-2


@pytest.mark.parametrize("name", ["dynamic_ntk", "longrope"])
def test_each_packed_sequence_rotates_by_its_own_length(name: str, rng: np.random.Generator):
    rows = [[1] * 60 + [2] * 20 + [0] * 20, [1] * 20 + [2] * 60 + [0] * 20, [1] * 90 + [0] * 10]
    segments, x = np.array(rows), rng.normal(size=(3, 100, HEADS, HEAD))
    packed = both(rope(ALL[name]), x, segments)
    assert np.isfinite(packed).all()
    for row, segment in ((0, 1), (0, 2), (1, 1), (1, 2), (2, 1)):
        at = segments[row] == segment
        np.testing.assert_allclose(packed[row, at], both(rope(ALL[name]), x[row : row + 1, at])[0], **OPERATION)
    assert np.abs(packed[1, :20] - both(rope(ALL[name]), x[1:2])[0, :20]).max() > 0.1


@pytest.mark.parametrize("name", ALL)
def test_both_packages_round_the_same_way_in_16_bits(name: str, rng: np.random.Generator):
    x = rng.normal(size=(1, 130, HEADS, HEAD))
    each = twins("nn.position:POSITION:", rope(ALL[name]), (HEADS, HEAD), rng=rng, dtype="bfloat16")
    ours, theirs = (rotated(twin, x) for twin in each)
    if name == "dynamic_ntk":  # powers in float32 differ in their last digit
        assert (ours == theirs).mean() > 0.99
    else:
        np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize("name", ALL)
def test_rope_keeps_its_frequencies_in_64_bits_and_out_of_the_weights(name: str):
    for twin in twins("nn.position:POSITION:", rope(ALL[name]), (HEADS, HEAD), rng=np.random.default_rng(0), dtype="bfloat16"):
        assert not twin.params()
        assert twin.module.bias(mask_of(twin, 5)) is None
    assert not list(twin.module.buffers())
    assert twin.module.to(torch.bfloat16).frequencies.dtype == np.float64


@pytest.mark.parametrize("c", [config.Alibi(), config.T5Bias(), config.SharedBias(), config.NoPosition()])
def test_what_adds_a_bias_rotates_nothing(c: config.Config, rng: np.random.Generator):
    x = rng.normal(size=(2, 5, HEADS, HEAD))
    for twin in twins("nn.position:POSITION:", c, (HEADS, HEAD), rng=rng):
        np.testing.assert_array_equal(rotated(twin, x), x)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_alibi_subtracts_the_slope_for_every_token_between(dtype: str, rng: np.random.Generator):
    segments = np.array([[1, 1, 1, 2, 2, 2, 0], [1, 1, 2, 2, 2, 2, 2]])
    each = twins("nn.position:POSITION:", config.Alibi(max_bias=6.0), (4, HEAD), rng=rng, dtype=dtype)
    ours, theirs = (biases(twin, mask_of(twin, 7, segments)) for twin in each)
    np.testing.assert_array_equal(theirs, ours)
    assert ours.dtype == theirs.dtype == (np.float32 if dtype == "bfloat16" else np.float64)
    assert ours.shape == (2, 4, 7, 7)
    np.testing.assert_allclose(ours[0, :, 5, 3], -2 * 2.0 ** (-6.0 * np.arange(1, 5) / 4), **FLOAT32_OPERATION)


@pytest.mark.parametrize("causal", [True, False])
def test_t5_bias_is_that_of_transformers(causal: bool, rng: np.random.Generator):
    c = config.T5Bias(num_buckets=8, max_distance=20)
    each = twins("nn.position:T5Bias", c, (HEADS, HEAD), rng=rng)
    assert [list(twin.params()) for twin in each] == [["table.weight"]] * 2
    ours, theirs = (biases(twin, mask_of(twin, 40, causal=causal)) for twin in each)
    np.testing.assert_array_equal(theirs, ours)
    offsets = torch.arange(40)[None, :] - torch.arange(40)[:, None]
    buckets = T5Attention._relative_position_bucket(offsets, not causal, 8, 20)
    want = each[1].params()["table.weight"][buckets.numpy()].transpose(2, 0, 1)[None]
    np.testing.assert_array_equal(ours, want)


def test_t5_bias_is_not_rounded_to_the_compute_dtype():
    recipe = (config.Dtype(param="float32", compute="bfloat16"), 0.02, 0.02)
    c, heads = config.T5Bias(), (HEADS, HEAD)
    ours = T5Bias(c, heads, Maker(jax.random.key(0), *recipe))
    theirs = TorchT5Bias(c, heads, TorchMaker(torch.Generator(), *recipe))
    for module, context, table in (
        (ours, Context(causal_mask(1)), ours.table.embedding[...]),
        (theirs, TorchContext(torch_causal_mask(1)), theirs.table.weight),
    ):
        np.testing.assert_array_equal(array(module.bias(context).at(context.mask.offsets()))[0, :, 0, 0], array(table)[0])


def test_the_shared_bias_is_that_of_the_context(rng: np.random.Generator):
    for twin in twins("nn.position:POSITION:", config.SharedBias(), (HEADS, HEAD), rng=rng):
        counted = np.arange(5)[None]
        shared = operation(twin.package, "position_bias.OffsetBias")((), max)
        assert twin.module.bias(twin.context(counted, counted, shared_bias=shared)) is shared
        assert twin.module.bias(twin.context(counted, counted)) is None
