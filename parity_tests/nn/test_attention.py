"""Token mixers: every option is what its config says, in both packages, and a cache changes nothing."""

from typing import Any

import numpy as np
import pytest

from jax_transformer import config
from parity_tests.nn.twins import Twin, assert_same, run, twins
from parity_tests.ops.pairs import PACKAGES, array, operation, tensor
from parity_tests.tolerances import DIFFERENT_BITS, MODULE, NEAR_16_BITS, OPERATION

D_MODEL, LENGTH, HEADS = 10, 7, {"num_heads": 6, "num_kv_heads": 2, "head_dim": 4}
RMS, LAYER = config.RMSNorm(eps=0.1), config.LayerNorm(bias=False)
NOPE = config.NoPosition()
MLA = {"num_heads": 3, "kv_rank": 5, "nope_dim": 6, "rope_dim": 4, "v_dim": 7}


def softmax(**options: Any) -> config.Softmax:
    return config.Softmax(**(HEADS | options))


MIXERS: dict[str, config.Attention] = {
    "grouped": softmax(qkv_bias=True, o_bias=True, scale=0.9),
    "clipped": softmax(clip_qkv=0.7, window=3, sink_tokens=1),
    "chunked": softmax(chunk_size=3, position=config.Rope(layout="interleaved")),
    "capped": softmax(softcap=0.8, sink_logits=True, position=config.Alibi()),
    "gated": softmax(output_gate="element", position=config.T5Bias(num_buckets=4, max_distance=6)),
    "head gate": softmax(output_gate="head", position=config.Rope(layout="interleaved", fraction=0.5)),
    "norm of heads": softmax(qk_norm=config.QkNorm(norm=RMS)),
    "own norms": softmax(qk_norm=config.QkNorm(norm=LAYER, scope="own_heads", place="after_rope")),
    "full norm": softmax(qk_norm=config.QkNorm(norm=RMS, scope="full")),
    "unlearned norm": softmax(qk_norm=config.QkNorm(norm=config.L2Norm(), place="after_rope")),
    "temperature": softmax(query_temperature=config.QueryTemperature(beta=0.3, original_length=2, offset=1), position=NOPE),
    "complex": config.Complex(num_heads=3, head_dim=4, qkv_bias=True, o_bias=True, window=3, sink_tokens=1),
    "complex unrotated": config.Complex(num_heads=3, head_dim=5, rope_base=None, scale=0.9),
    "latent": config.Mla(**MLA, q_rank=8, down_bias=True, o_bias=True, window=3, sink_tokens=1),
    "chunked complex": config.Complex(num_heads=3, head_dim=4, chunk_size=2),
    "chunked latent": config.Mla(**MLA, chunk_size=2),
    "latent, direct queries": config.Mla(**MLA, latent_norm=LAYER, position=NOPE, scale=0.9),
}

POSITIONS = np.stack([np.arange(LENGTH), np.maximum(np.arange(LENGTH) - 2, -1)])
SEGMENTS = np.stack([np.ones(LENGTH, int), (np.arange(LENGTH) > 1).astype(int)])
"""The second row begins with two tokens of padding."""


def build(c: config.Attention, rng: np.random.Generator, dtype: str = "float64") -> tuple[Twin, Twin]:
    return twins("nn.attention:ATTENTION:", c, D_MODEL, rng=rng, dtype=dtype)


def by_distance(table: Any, offsets: Any) -> Any:
    """A bias per head that grows with the offset, in any framework."""
    return table[None, :, None, None] * offsets[:, None]


def whole(twin: Twin, x: np.ndarray, **options: Any) -> tuple[dict[str, np.ndarray], Any]:
    return run(twin, x, twin.context(POSITIONS, POSITIONS, SEGMENTS, SEGMENTS), **options)


def draw(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(2, LENGTH, D_MODEL))


def agreed(c: config.Attention, rng: np.random.Generator) -> tuple[Twin, np.ndarray, dict[str, np.ndarray]]:
    """Torch's module, its input and all it computes, which JAX computes too."""
    x = draw(rng)
    ours, theirs = build(c, rng)
    values = whole(theirs, x)[0]
    assert_same(whole(ours, x)[0], values)
    return theirs, x, values


@pytest.mark.parametrize("name", MIXERS)
def test_both_packages_compute_the_same(name: str, rng: np.random.Generator):
    _, _, values = agreed(MIXERS[name], rng)
    assert [name for name in values if name != "gate"] == ["q", "k", "v", "probabilities", "mixed", "output"]
    assert ("gate" in values) == (getattr(MIXERS[name], "output_gate", None) is not None)
    assert not values["mixed"][1, :2].any(), "padding saw something"


@pytest.mark.parametrize("name", MIXERS)
def test_both_packages_cast_at_the_same_places(name: str, rng: np.random.Generator):
    x, pair = draw(rng), build(MIXERS[name], rng, "bfloat16")
    ours, theirs = (whole(twin, x)[0] for twin in pair)
    assert_same(ours, theirs, **NEAR_16_BITS)
    for name in ours.keys() & {"q", "k", "v", "gate"}:
        assert np.mean(ours[name] != theirs[name]) <= DIFFERENT_BITS, name
    for twin in pair:
        assert twin.dtypes == ["float32" if name == "probabilities" else "bfloat16" for name in ours]


@pytest.mark.parametrize("name", MIXERS)
def test_cached_decode_equals_full_forward(name: str, rng: np.random.Generator):
    x, slots = draw(rng), LENGTH + 2
    for twin in build(MIXERS[name], rng):
        full, want = whole(twin, x, cache=(twin.module.empty_cache(2, LENGTH), *twin.tensors(np.array(0))))
        memory = twin.module.empty_cache(2, slots)
        for start, stop in [(0, 3), *((at, at + 1) for at in range(3, LENGTH))]:
            k_positions, k_segments = (np.zeros((2, slots), int) for _ in range(2))
            k_positions[:, :stop], k_segments[:, :stop] = POSITIONS[:, :stop], SEGMENTS[:, :stop]
            context = twin.context(POSITIONS[:, start:stop], k_positions, SEGMENTS[:, start:stop], k_segments)
            values, memory = run(twin, x[:, start:stop], context, cache=(memory, *twin.tensors(np.array(start))))
            values["probabilities"] = values["probabilities"][..., :LENGTH]
            for tap in values.keys() - {"k", "v", "probabilities"}:
                np.testing.assert_allclose(values[tap], full[tap][:, start:stop], err_msg=tap, **MODULE)
            np.testing.assert_allclose(values["probabilities"], full["probabilities"][:, :, start:stop], **MODULE)
        for field in vars(want):
            got, whole_memory = array(getattr(memory, field)), array(getattr(want, field))
            np.testing.assert_allclose(got[:, :LENGTH], whole_memory, err_msg=field, **MODULE)
            assert not got[:, LENGTH:].any()


@pytest.mark.parametrize("name", ["clipped", "complex", "latent"])
def test_sink_tokens_are_seen_from_beyond_the_window(name: str, rng: np.random.Generator):
    seen = agreed(MIXERS[name], rng)[2]["probabilities"][0] > 0
    later = np.arange(LENGTH)[:, None] - np.arange(LENGTH)[None, :]
    want = (later >= 0) & ((later < 3) | (np.arange(LENGTH) < 1)[None, :])
    np.testing.assert_array_equal(seen, np.broadcast_to(want, seen.shape))


@pytest.mark.parametrize("sinks", [False, True])
def test_probabilities_add_up_to_one_unless_there_are_sinks(sinks: bool, rng: np.random.Generator):
    total = agreed(softmax(sink_logits=sinks), rng)[2]["probabilities"].sum(-1)
    assert not total[1, :, :2].any()
    total = np.concatenate([total[0].ravel(), total[1, :, 2:].ravel()])
    assert (total < 1).all() if sinks else np.allclose(total, 1, **OPERATION)


def test_sinks_begin_at_zero_and_have_the_name_that_the_converter_knows():
    for package in PACKAGES:
        params = Twin(package, "nn.attention:ATTENTION:", (softmax(sink_logits=True), D_MODEL), "float64").params()
        np.testing.assert_array_equal(params["sinks"], np.zeros(6))


def test_projections_are_clipped_before_anything_else(rng: np.random.Generator):
    twin, x, values = agreed(softmax(clip_qkv=0.7, position=NOPE), rng)
    for name in "qkv":
        projected = x @ twin.params()[f"{name}_proj.weight"].T
        assert np.abs(projected).max() > 0.7
        np.testing.assert_allclose(values[name].reshape(2, LENGTH, -1), np.clip(projected, -0.7, 0.7), **MODULE)


@pytest.mark.parametrize("gate", ["element", "head"])
def test_the_gate_multiplies_what_the_heads_found(gate: Any, rng: np.random.Generator):
    twin, x, values = agreed(softmax(output_gate=gate), rng)
    weights = twin.weights
    opened = 1 / (1 + np.exp(-x @ weights["g_proj.weight"].T))
    opened = opened.reshape(2, LENGTH, 6, -1)
    assert opened.shape[-1] == (4 if gate == "element" else 1)
    np.testing.assert_allclose(values["gate"], opened, **MODULE)
    want = (values["mixed"] * opened).reshape(2, LENGTH, -1) @ weights["o_proj.weight"].T
    np.testing.assert_allclose(values["output"], want, **MODULE)


@pytest.mark.parametrize("place", ["before_rope", "after_rope"])
@pytest.mark.parametrize("scope", ["head", "own_heads", "full"])
def test_queries_and_keys_are_normalised_over_their_scope(scope: Any, place: Any, rng: np.random.Generator):
    twin, x, values = agreed(softmax(qk_norm=config.QkNorm(norm=RMS, scope=scope, place=place)), rng)
    weights = twin.weights
    for name, heads in (("q", 6), ("k", 2)):
        shape = {"head": (4,), "own_heads": (heads, 4), "full": (heads * 4,)}[scope]
        assert weights[f"{name}_norm.weight"].shape == shape

        def norm(heads: np.ndarray, weight: np.ndarray = weights[f"{name}_norm.weight"]) -> np.ndarray:
            flat = heads.reshape(2, LENGTH, -1) if scope == "full" else heads
            return (flat / np.sqrt((flat**2).mean(-1, keepdims=True) + 0.1) * weight).reshape(heads.shape)

        projected = (x @ weights[f"{name}_proj.weight"].T).reshape(2, LENGTH, heads, 4)
        want = rope(norm(projected)) if place == "before_rope" else norm(rope(projected))
        np.testing.assert_allclose(values[name], want, **MODULE)


def rope(heads: np.ndarray) -> np.ndarray:
    angles = POSITIONS[:, :, None, None] * 10_000.0 ** (-np.arange(2) / 2)
    turned = (heads[..., :2] + 1j * heads[..., 2:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def test_a_norm_without_weights_has_no_parameters(rng: np.random.Generator):
    for norm in (config.L2Norm(), config.RMSNorm(weight="none")):
        for twin in build(softmax(qk_norm=config.QkNorm(norm=norm)), rng):
            assert twin.params().keys() == {f"{name}_proj.weight" for name in "qkvo"}


@pytest.mark.parametrize("offset", [0, 1])
def test_queries_grow_with_their_position(offset: int, rng: np.random.Generator):
    temperature = config.QueryTemperature(beta=0.3, original_length=2, offset=offset)
    twin, x, values = agreed(softmax(query_temperature=temperature, position=NOPE), rng)
    factor = 1 + 0.3 * np.log(1 + np.floor((np.maximum(POSITIONS, 0) + offset) / 2))
    want = x @ twin.weights["q_proj.weight"].T * factor[:, :, None]
    np.testing.assert_allclose(values["q"].reshape(want.shape), want, **MODULE)
    np.testing.assert_allclose(values["k"].reshape(2, LENGTH, -1), x @ twin.weights["k_proj.weight"].T, **MODULE)


@pytest.mark.parametrize("package", PACKAGES)
def test_temperature_is_computed_in_float32(package: str):
    # The factor for position 300 is 1 + ln(302) = 6.71, whose logarithm bfloat16 positions (302 is one) cannot tell from 304.
    function = __import__(f"{package}.nn.attention.query_key", fromlist=["temper_queries"]).temper_queries
    q, c = np.full((1, 1, 1, 2), 1.0078125), config.QueryTemperature(beta=1.0, original_length=1, offset=1)
    got = function(tensor(package, q, "bfloat16"), tensor(package, np.array([[300]])), c)
    want = tensor(package, q * (1 + np.log(302.0)), "bfloat16")
    np.testing.assert_array_equal(array(got), array(want))


def test_complex_scores_are_those_of_complex_numbers(rng: np.random.Generator):
    twin, x, values = agreed(config.Complex(num_heads=3, head_dim=4, rope_base=50.0, scale=0.6), rng)
    weights = twin.weights

    def turned(name: str) -> np.ndarray:
        parts = [(x @ weights[f"{name}_{part}_proj.weight"].T).reshape(2, LENGTH, 3, 4) for part in ("re", "im")]
        angles = POSITIONS[:, :, None, None] * np.tile(50.0 ** (-2 * np.arange(2) / 4), 2)
        return (parts[0] + 1j * parts[1]) * np.exp(1j * angles)

    scores = np.einsum("BTNH,BSNH->BNTS", turned("q"), turned("k").conj()).real * 0.6
    allowed = (POSITIONS[:, :, None] >= POSITIONS[:, None, :]) & (SEGMENTS[:, :, None] * SEGMENTS[:, None, :] == 1)
    share = np.exp(scores) * allowed[:, None]
    want = share / np.maximum(share.sum(-1, keepdims=True), 1e-300)
    np.testing.assert_allclose(values["probabilities"], want, **MODULE)
    mixed = np.einsum("BNTS,BSNH->BTNH", want, (x @ weights["v_proj.weight"].T).reshape(2, LENGTH, 3, 4))
    np.testing.assert_allclose(values["output"], mixed.reshape(2, LENGTH, -1) @ weights["o_proj.weight"].T, **MODULE)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_shared_bias_comes_from_the_context(package: str, rng: np.random.Generator):
    x, table = draw(rng), rng.normal(size=6)
    twin = build(softmax(position=config.SharedBias()), rng)[PACKAGES.index(package)]
    shared = operation(package, "position_bias.OffsetBias")(twin.tensors(table)[0], by_distance)
    context = {"q": POSITIONS, "k": POSITIONS}
    plain, biased = (
        run(twin, x, twin.context(**context, **more))[0]["probabilities"] for more in ({}, {"shared_bias": shared})
    )
    want = plain * np.exp(by_distance(table, POSITIONS[:, None, :] - POSITIONS[:, :, None]))
    np.testing.assert_allclose(biased, want / want.sum(-1, keepdims=True), **MODULE)
