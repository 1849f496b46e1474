"""Linear attention and Gated DeltaNet: the same in both packages and in every form, with a state that forgets no token."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.qwen3_next import modeling_qwen3_next
from transformers.models.qwen3_next.configuration_qwen3_next import Qwen3NextConfig

from jax_transformer import config
from jax_transformer.nn.params import param_specs
from jax_transformer.train.optimizer import decay_mask
from parity_tests.linear_time import gated_delta, linear
from parity_tests.nn.twins import Twin, assert_same, run, twins
from parity_tests.ops.pairs import PACKAGES, array
from parity_tests.tolerances import DIFFERENT_BITS, FLOAT32_MODULE, INIT_SIGMAS, MODULE, NEAR_16_BITS

D_MODEL, LENGTH = 10, 11
INDEX = np.arange(LENGTH)
SEGMENTS = np.stack([np.where(INDEX < 4, 2, np.where(INDEX < 9, 1, 0)), np.where(INDEX < 2, 0, 1)])
"""Two documents and padding behind them; padding, then one document."""

MIXERS: dict[str, Any] = {
    "linear": linear(qkv_bias=True, o_bias=True, chunk=3),
    "delta": gated_delta(conv_width=3, chunk=3),
    "turning delta": gated_delta(num_value_heads=2, allow_neg_eigval=True, norm=config.RMSNorm(weight="none")),
}
TAPS = {config.Linear: ["q", "k", "v", "mixed"], config.GatedDelta: ["q", "k", "v", "beta", "decay", "mixed", "gate"]}


def build(c: config.Attention, rng: np.random.Generator, dtype: str = "float64") -> tuple[Twin, Twin]:
    return twins("nn.attention:ATTENTION:", c, D_MODEL, rng=rng, dtype=dtype)


def draw(rng: np.random.Generator, rows: int = 2) -> np.ndarray:
    return rng.normal(size=(rows, LENGTH, D_MODEL))


def read(twin: Twin, x: np.ndarray, segments: np.ndarray | None = None, **options: Any) -> tuple[dict[str, np.ndarray], Any]:
    """All that a module computes of ``x``. ``causal=False``: in both directions."""
    causal = options.pop("causal", True)
    positions = np.broadcast_to(np.arange(x.shape[1]), x.shape[:2])
    given = () if segments is None else (segments, segments)
    return run(twin, x, twin.context(positions, positions, *given, causal=causal), **options)


def empty(twin: Twin, rows: int, length: int = LENGTH) -> tuple[Any, Any]:
    """A cache and a slot, which means nothing here."""
    return twin.module.empty_cache(rows, length), *twin.tensors(np.array(0))


def held(memory: Any) -> dict[str, np.ndarray]:
    return {name: array(value) for name, value in vars(memory).items()}


@pytest.mark.parametrize("name", MIXERS)
def test_both_packages_compute_the_same_and_padding_gets_nothing(name: str, rng: np.random.Generator):
    x, pair = draw(rng), build(MIXERS[name], rng)
    ours, theirs = (read(twin, x, SEGMENTS)[0] for twin in pair)
    assert_same(ours, theirs)
    assert list(ours) == [*TAPS[type(MIXERS[name])], "output"]
    assert not ours["mixed"][SEGMENTS == 0].any()
    assert np.abs(ours["mixed"][SEGMENTS != 0]).min() > 0


@pytest.mark.parametrize("name", MIXERS)
def test_both_packages_cast_at_the_same_places(name: str, rng: np.random.Generator):
    x, pair = draw(rng), build(MIXERS[name], rng, "bfloat16")
    found = [read(twin, x, SEGMENTS, cache=empty(twin, 2)) for twin in pair]
    assert_same(found[0][0], found[1][0], **NEAR_16_BITS)
    gates = {"beta", "decay", "gate"} | ({"q", "k"} if name != "linear" else set())
    for twin, (values, memory) in zip(pair, found, strict=True):
        assert twin.dtypes == ["float32" if name in gates else "bfloat16" for name in values]
        kinds = [
            {part: str(value.dtype).removeprefix("torch.") for part, value in vars(of).items()}
            for of in (memory, empty(twin, 2)[0])
        ]
        assert kinds[0] == kinds[1] == {part: "bfloat16" if "window" in part else "float32" for part in kinds[0]}
    for tap in ("v", "mixed"):
        assert np.mean(found[0][0][tap] != found[1][0][tap]) <= DIFFERENT_BITS, tap


@pytest.mark.parametrize("name", MIXERS)
def test_cached_decode_equals_full_forward(name: str, rng: np.random.Generator):
    x, segments = draw(rng), np.stack([np.ones(LENGTH, int), SEGMENTS[1]])
    states = []
    for twin in build(MIXERS[name], rng):
        full, want = read(twin, x, segments, cache=empty(twin, 2))
        memory, slot = empty(twin, 2, 99)
        for part in (slice(0, 1), slice(1, 3), slice(3, LENGTH - 2), slice(LENGTH - 2, LENGTH)):
            values, memory = read(twin, x[:, part], segments[:, part], cache=(memory, slot))
            for tap, value in values.items():
                np.testing.assert_allclose(value, full[tap][:, part], err_msg=tap, **MODULE)
        assert_same(held(memory), held(want))
        states.append(held(memory))
    assert_same(*states)


@pytest.mark.parametrize("name", MIXERS)
def test_documents_packed_into_a_row_do_not_know_of_one_another(name: str, rng: np.random.Generator):
    x = draw(rng)
    for twin in build(MIXERS[name], rng)[1:]:
        packed = read(twin, x, SEGMENTS)[0]["output"]
        for row, part in ((0, slice(0, 4)), (0, slice(4, 9)), (1, slice(2, LENGTH))):
            alone = read(twin, x[row : row + 1, part])[0]["output"]
            np.testing.assert_allclose(packed[row : row + 1, part], alone, **MODULE)


@pytest.mark.parametrize("name", ["linear", "delta"])
def test_every_form_is_the_same_function(name: str, rng: np.random.Generator):
    x, seed = draw(rng), rng.integers(1000)
    forms = type(MIXERS[name]).model_fields["implementation"].annotation.__args__
    for index in range(len(PACKAGES)):
        outputs = []
        for form in forms:
            c = MIXERS[name].model_copy(update={"implementation": form})
            outputs.append(read(build(c, np.random.default_rng(seed))[index], x, SEGMENTS)[0]["output"])
        for output in outputs[1:]:
            np.testing.assert_allclose(output, outputs[0], **MODULE)
    assert len(forms) >= 3


def test_a_prefilled_reference_goes_on_from_its_sums(rng: np.random.Generator):
    x = draw(rng)
    for twin in build(linear(implementation="reference"), rng):
        full = read(twin, x)[0]["output"]
        memory, slot = empty(twin, 2)
        for part in (slice(0, 9), slice(9, LENGTH)):
            values, memory = read(twin, x[:, part], cache=(memory, slot))
            np.testing.assert_allclose(values["output"], full[:, part], **MODULE)


@pytest.mark.parametrize("causal", [True, False])
def test_linear_attention_is_a_mean_weighted_by_positive_features(causal: bool, rng: np.random.Generator):
    x = draw(rng)
    for twin in build(linear(eps=0.3), rng):
        values = read(twin, x, SEGMENTS, causal=causal)[0]
        q, k = (np.where(values[name] > 0, values[name] + 1, np.exp(values[name])) for name in "qk")
        weights = np.einsum("BTNH,BSNH->BNTS", q, np.repeat(k, 3, axis=2))
        seen = (SEGMENTS[:, :, None] == SEGMENTS[:, None, :]) & (SEGMENTS[:, None, :] != 0)
        weights = weights * (seen & ((INDEX[:, None] >= INDEX[None, :]) | (not causal)))[:, None]
        want = np.einsum("BNTS,BSNV->BTNV", weights, np.repeat(values["v"], 3, axis=2))
        want = want / (weights.sum(-1).swapaxes(1, 2)[..., None] + 0.3)
        np.testing.assert_allclose(values["mixed"], want, **MODULE)
        out = want.reshape(2, LENGTH, -1) @ twin.weights["o_proj.weight"].T
        np.testing.assert_allclose(values["output"], out, **MODULE)


@pytest.mark.parametrize("c", [linear(), gated_delta()], ids=["linear", "delta"])
def test_a_longer_text_needs_no_larger_cache(c: config.Attention):
    for package in PACKAGES:
        twin = Twin(package, "nn.attention:ATTENTION:", (c, D_MODEL), "float64")
        sizes = [{name: value.shape for name, value in held(empty(twin, 3, length)[0]).items()} for length in (1, 1000)]
        assert sizes[0] == sizes[1]
        if isinstance(c, config.Linear):
            assert sizes[0] == {"sums": (3, 2, 4, 5), "norms": (3, 2, 4)}
        else:
            windows = {"q_window": (3, 3, 10), "k_window": (3, 3, 10), "v_window": (3, 3, 24)}
            assert sizes[0] == windows | {"state": (3, 6, 5, 4)}


def test_gates_are_those_of_the_paper(rng: np.random.Generator):
    x = draw(rng)
    for allow in (False, True):
        for twin in build(gated_delta(allow_neg_eigval=allow), rng):
            values, weights = read(twin, x)[0], twin.weights
            beta = (2 if allow else 1) / (1 + np.exp(-x @ weights["b_proj.weight"].T))
            np.testing.assert_allclose(values["beta"], beta, **MODULE)
            step = np.log1p(np.exp(x @ weights["a_proj.weight"].T + weights["dt_bias"]))
            np.testing.assert_allclose(values["decay"], -np.exp(weights["A_log"]) * step, **MODULE)
            for name in "qk":
                assert (np.square(values[name]).sum(-1) < 1).all()


def test_initial_values_names_and_what_decays():
    c = gated_delta(num_value_heads=400, num_key_heads=4, conv_width=4)
    for package in PACKAGES:
        twin = Twin(package, "nn.attention:ATTENTION:", (c, D_MODEL), "float64")
        params = twin.params()
        rates = np.exp(params["A_log"])
        assert 0.01 <= rates.min() < 0.5 < 15.5 < rates.max() <= 16
        np.testing.assert_allclose(rates.mean(), 8, atol=INIT_SIGMAS * 16 / np.sqrt(12 * rates.size))
        np.testing.assert_array_equal(params["dt_bias"], np.ones(400))
        assert params["v_conv.weight"].shape == (1600, 4)
        filters = params["v_conv.weight"]
        np.testing.assert_allclose(filters.std(), 0.02, rtol=INIT_SIGMAS / np.sqrt(2 * filters.size))
        if package == "jax_transformer":
            decays = decay_mask(config.AdamW(), param_specs(twin.module))
            assert {name for name, decayed in decays.items() if not decayed} == {"A_log", "dt_bias", "norm.scale"}
            assert {f"{name}_conv.filter" for name in "qkv"} <= decays.keys()


def qwen3_next(c: config.GatedDelta, weights: dict[str, torch.Tensor], x: np.ndarray, real: np.ndarray) -> np.ndarray:
    """What ``transformers`` computes with these weights; its projections hold one key head's rows after another's."""
    settings = Qwen3NextConfig(
        hidden_size=D_MODEL,
        linear_num_key_heads=c.num_key_heads,
        linear_num_value_heads=c.num_value_heads,
        linear_key_head_dim=c.key_dim,
        linear_value_head_dim=c.v_dim,
        linear_conv_kernel_dim=c.conv_width,
        rms_norm_eps=c.norm.eps,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
    )
    module = modeling_qwen3_next.Qwen3NextGatedDeltaNet(settings, layer_idx=0).double()

    def grouped(names: str) -> torch.Tensor:
        parts = [weights[f"{name}_proj.weight"].reshape(c.num_key_heads, -1, D_MODEL) for name in names]
        return torch.cat(parts, dim=1).reshape(-1, D_MODEL)

    state = {"in_proj_qkvz.weight": grouped("qkvz"), "in_proj_ba.weight": grouped("ba"), "norm.weight": weights["norm.weight"]}
    state["conv1d.weight"] = torch.cat([weights[f"{name}_conv.weight"] for name in "qkv"])[:, None]
    state |= {"out_proj.weight": weights["o_proj.weight"]} | {name: weights[name] for name in ("A_log", "dt_bias")}
    module.load_state_dict(state)
    with torch.no_grad():
        return module(torch.tensor(x), attention_mask=torch.tensor(real)).numpy()


def test_gated_delta_is_that_of_qwen3_next(rng: np.random.Generator):
    c = gated_delta(norm=config.RMSNorm(eps=1e-3), l2_eps=1e-6, conv_width=4)
    pair, x = build(c, rng), draw(rng)
    real = np.stack([np.ones(LENGTH, int), SEGMENTS[1]])
    want = qwen3_next(c, dict(pair[1].module.state_dict()), x, real)
    for twin in pair:
        got = read(twin, x, real)[0]["output"]
        # Their delta rule, decay and norm are float32 whatever the input is.
        np.testing.assert_allclose(got, want, **FLOAT32_MODULE)
