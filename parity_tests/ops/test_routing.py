"""Routers: the rules of real families, ties, places and what is dropped."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.ernie4_5_moe.modeling_ernie4_5_moe import Ernie4_5_MoeTopKRouter
from transformers.models.glm4_moe.modeling_glm4_moe import Glm4MoeTopkRouter
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssTopKRouter
from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeTopKRouter
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeTopKRouter

from parity_tests.ops.pairs import PACKAGES, array, operation, tensor
from parity_tests.tolerances import FLOAT32_OPERATION, OPERATION

E, K = 12, 4
V2, V3 = {"groups": (4, 2, 1)}, {"groups": (4, 2, 2)}
"""Four groups of three experts, of which two are kept, judged by their best or by their two best."""

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax": ("softmax_top_k", {}),
    "renormalized": ("softmax_top_k", {"renormalize": True}),
    "biased": ("softmax_top_k", {"renormalize": True, "floor": 0.3, "bias": True}),
    "best groups": ("softmax_top_k", V2 | {"scale": 2.5}),
    "top k first": ("top_k_softmax", {}),
    "sigmoid": ("sigmoid_top_k", {}),
    "sigmoid, in groups": ("sigmoid_top_k", V3 | {"bias": True, "scale": 2.5}),
    "sigmoid, as it is": ("sigmoid_top_k", V3 | {"bias": True, "renormalize": False}),
}

FAMILIES: dict[str, tuple[Callable, str, dict[str, Any]]] = {
    "mixtral": (MixtralTopKRouter, "renormalized", {}),
    "qwen2": (Qwen2MoeTopKRouter, "softmax", {"norm_topk_prob": False}),
    "qwen3": (Qwen3MoeTopKRouter, "renormalized", {"norm_topk_prob": True}),
    "gpt_oss": (GptOssTopKRouter, "top k first", {}),
    "ernie": (Ernie4_5_MoeTopKRouter, "biased", {"moe_norm_min": 0.3}),
    "deepseek_v2": (DeepseekV2TopkRouter, "best groups", {"topk_method": "group_limited_greedy"}),
    "deepseek_v3": (DeepseekV3TopkRouter, "sigmoid, in groups", {"norm_topk_prob": True}),
    "glm4_moe": (Glm4MoeTopkRouter, "sigmoid, in groups", {"norm_topk_prob": True}),
    "glm4_moe, as it is": (Glm4MoeTopkRouter, "sigmoid, as it is", {"norm_topk_prob": False}),
}


def drawn_bias(rng: np.random.Generator) -> np.ndarray:
    """Strong enough to change what is chosen."""
    return rng.normal(size=E) / 3


def route(
    package: str, rule: str, logits: np.ndarray, bias: np.ndarray, k: int = K, dtype: str | None = None
) -> list[np.ndarray]:
    """Experts, weights and probabilities."""
    name, options = RULES[rule]
    if options.get("bias"):
        options = options | {"bias": tensor(package, bias, dtype)}
    if "groups" in options:
        options = options | {"groups": operation(package, "routing.Groups")(*options["groups"])}
    return [array(x) for x in operation(package, f"routing.{name}")(tensor(package, logits, dtype), k, **options)]


def spread(experts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weights of all experts, those that were not chosen NaN."""
    found = np.full((*experts.shape[:-1], E), np.nan, weights.dtype)
    np.put_along_axis(found, experts, weights, axis=-1)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rule_is_that_of_its_family(family: str, rng: np.random.Generator):
    router, rule, extra = FAMILIES[family]
    options = RULES[rule][1]
    sizes = {"num_experts_per_tok": K, "num_local_experts": E, "num_experts": E, "hidden_size": E}
    groups = {"routed_scaling_factor": options.get("scale", 1.0), "n_group": 4, "topk_group": 2}
    module, bias = router(SimpleNamespace(**sizes, **groups, **extra)), drawn_bias(rng)
    if "bias" in options:
        statics = module.moe_statics if family == "ernie" else module
        statics.e_score_correction_bias.data.copy_(torch.tensor(bias))
    for name, parameter in module.named_parameters():
        if name in ("weight", "bias"):
            parameter.data = torch.eye(E) if name == "weight" else torch.zeros(E)
    logits = rng.normal(size=(50, E))
    with torch.no_grad():
        _, weights, experts = (array(x) for x in module(torch.tensor(logits, dtype=torch.float32)))
    for package in PACKAGES:
        got = route(package, rule, logits, bias, dtype="float32")
        assert got[1].dtype == got[2].dtype == np.float32
        np.testing.assert_allclose(spread(*got[:2]), spread(experts, weights), **FLOAT32_OPERATION)
        assert "bias" not in options or (np.sort(got[0]) != np.sort(route(package, rule, logits, 0 * bias)[0])).any()


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("rule", RULES)
def test_both_packages_choose_the_best_k_and_weigh_them_alike(rule: str, k: int, rng: np.random.Generator):
    logits, bias = rng.normal(size=(5, 7, E)), drawn_bias(rng)
    (experts, weights, probabilities), theirs = (route(package, rule, logits, bias, k) for package in PACKAGES)
    np.testing.assert_array_equal(experts, theirs[0])
    for mine, other in zip((weights, probabilities), theirs[1:], strict=True):
        assert mine.dtype == other.dtype == np.float64
        np.testing.assert_allclose(mine, other, **OPERATION)
    assert experts.shape == weights.shape == (5, 7, k)
    assert (np.diff(np.sort(experts)) > 0).all()
    np.testing.assert_allclose(probabilities.sum(-1), 1, **OPERATION)
    if "bias" not in RULES[rule][1]:
        assert (np.diff(weights) <= 0).all()
    raw = 1 / (1 + np.exp(-logits)) if "sigmoid" in rule else np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    raw = np.take_along_axis(raw, experts, -1)
    if rule not in ("softmax", "best groups", "sigmoid, as it is"):
        raw = raw / np.maximum(raw.sum(-1, keepdims=True), 0.3 if rule == "biased" else 0)
    np.testing.assert_allclose(weights, RULES[rule][1].get("scale", 1.0) * raw, **OPERATION)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("rule", RULES)
def test_of_equal_scores_the_lower_id_wins(rule: str, package: str):
    # Zeros of both signs are equal, and so are groups of them; the last row has its best expert in the last place.
    logits = np.zeros((3, E))
    logits[1, ::2] = -0.0
    logits[2, -1] = 1.0
    for dtype in ("float32", "float64"):
        experts = route(package, rule, logits, np.zeros(E), dtype=dtype)[0]
        np.testing.assert_array_equal(experts, [[0, 1, 2, 3]] * 2 + [[11, 0, 1, 2]])


@pytest.mark.parametrize("package", PACKAGES)
def test_sigmoids_that_round_to_one_are_told_apart_by_their_logits(package: str):
    logits = tensor(package, np.array([[30.0, 50.0, 20.0, 40.0]]), "float32")
    routing = operation(package, "routing.sigmoid_top_k")(logits, 2, renormalize=False)
    np.testing.assert_array_equal(array(routing.experts), [[1, 3]])
    np.testing.assert_array_equal(array(routing.weights), [[1.0, 1.0]])


@pytest.mark.parametrize("rule", RULES)
def test_gradients_are_the_same_and_the_bias_has_none(rule: str, rng: np.random.Generator):
    logits, bias, ways = rng.normal(size=(9, E)), drawn_bias(rng), [rng.normal(size=(9, n)) for n in (K, E)]
    name, options = RULES[rule]
    found = []
    for package in PACKAGES:
        given = options
        if "groups" in options:
            given = given | {"groups": operation(package, "routing.Groups")(*options["groups"])}

        def total(logits: Any, bias: Any, package: str = package, given: dict = given) -> Any:
            given = given | ({"bias": bias} if "bias" in given else {})
            _, *floats = operation(package, f"routing.{name}")(logits, K, **given)
            return sum((x * tensor(package, way)).sum() for x, way in zip(floats, ways, strict=True))

        if package == "jax_transformer":
            found.append(jax.grad(total, (0, 1))(jnp.asarray(logits), jnp.asarray(bias)))
        else:
            leaves = [torch.tensor(x, requires_grad=True) for x in (logits, bias)]
            found.append(torch.autograd.grad(total(*leaves), leaves, allow_unused=True, materialize_grads=True))
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(array(mine), array(other), **OPERATION)
    assert np.abs(array(found[0][0])).max() > 0.1
    assert not np.any(array(found[0][1]))


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("rule", RULES)
def test_16_bit_logits_are_weighed_in_float32(rule: str, package: str, rng: np.random.Generator):
    logits, bias = rng.normal(size=(9, E)), drawn_bias(rng)
    rounded = [np.asarray(jnp.asarray(x, jnp.bfloat16).astype(jnp.float32)) for x in (logits, bias)]
    for mine, want in zip(route(package, rule, logits, bias, dtype="bfloat16"), route(package, rule, *rounded), strict=True):
        assert mine.dtype == want.dtype
        np.testing.assert_array_equal(mine, want)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_cannot_be_chosen_is_refused(package: str):
    logits, groups = tensor(package, np.zeros((2, E))), operation(package, "routing.Groups")
    for name, k, options, message in [
        ("top_k_softmax", 13, {}, "13 experts for every token, but it can choose from 12 only"),
        ("sigmoid_top_k", 7, {"groups": groups(4, 2)}, "7 experts for every token, but it can choose from 6 only"),
        ("softmax_top_k", 1, {"groups": groups(5, 2)}, "12 experts are not 5 groups of one size"),
    ]:
        with pytest.raises(ValueError, match=message):
            operation(package, f"routing.{name}")(logits, k, **options)
