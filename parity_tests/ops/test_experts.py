"""Mixtures of experts as they are defined, and the experts of real families."""

from collections.abc import Callable
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

from jax_transformer.ops.experts.dense import Experts, dense_experts
from parity_tests.ops.mixtures import (
    KINDS,
    D,
    E,
    F,
    assert_same,
    drawn_choices,
    jax_activate,
    outcome,
    parameters,
    torch_activate,
    torch_outcome,
)
from parity_tests.ops.pairs import PACKAGES, array, operation, tensor
from parity_tests.tolerances import OPERATION, SEQUENCE


@pytest.mark.parametrize(("gated", "biased"), KINDS)
def test_the_definition_is_a_weighted_sum_over_all_experts(gated: bool, biased: bool, rng: np.random.Generator):
    x, weights, p = rng.normal(size=(4, D)), rng.normal(size=(4, E)), parameters(rng, gated, biased)
    want = np.zeros_like(x)
    for n, e in np.ndindex(4, E):
        up, *gate = (x[n] @ p[name][e] + (p[f"{name}_bias"][e] if biased else 0) for name in ("up", "gate") if name in p)
        hidden = gate[0] / (1 + np.exp(-gate[0])) * up if gated else np.tanh(up)
        want[n] += weights[n, e] * (hidden @ p["down"][e] + (p["down_bias"][e] if biased else 0))
    ours = outcome(lambda x, w, p, _: dense_experts(x, w, p, jax_activate), x, weights, p, np.zeros(0))
    dense = operation("torch_reference", "experts.dense.dense_experts")
    theirs = torch_outcome(lambda x, w, p: dense(x, w, p, torch_activate), x, weights, p)
    np.testing.assert_allclose(ours.outputs, want, **OPERATION)
    assert_same(theirs, ours)


@pytest.mark.parametrize(("gated", "biased"), KINDS)
def test_weighed_inputs_go_through_the_experts_whose_weight_is_not_zero(gated: bool, biased: bool, rng: np.random.Generator):
    x, p = rng.normal(size=(4, D)), parameters(rng, gated, biased)
    weights = np.where(rng.random((4, E)) < 0.4, 0.0, rng.normal(size=(4, E)))
    want, one, experts = np.zeros_like(x), jnp.eye(E), Experts(**{name: jnp.asarray(value) for name, value in p.items()})
    for n, e in zip(*np.nonzero(weights), strict=True):
        scaled = jnp.asarray(weights[n, e] * x[n : n + 1])
        want[n] += array(dense_experts(scaled, one[e : e + 1], experts, jax_activate))[0]
    ours = outcome(lambda x, w, p, _: dense_experts(x, w, p, jax_activate, weigh="input"), x, weights, p, np.zeros(0))
    dense = operation("torch_reference", "experts.dense.dense_experts")
    theirs = torch_outcome(lambda x, w, p: dense(x, w, p, torch_activate, weigh="input"), x, weights, p)
    np.testing.assert_allclose(ours.outputs, want, **OPERATION)
    assert_same(theirs, ours)
    assert (ours.gradients["weights"] != 0).any()


@pytest.mark.parametrize("package", PACKAGES)
def test_weights_of_all_experts_are_those_of_the_chosen(package: str, rng: np.random.Generator):
    chosen, weights = np.array([[0, 4], [5, 2], [5, 5]]), rng.normal(size=(3, 2))
    dense = operation(package, "experts.dense.token_choice_weights")(tensor(package, chosen), tensor(package, weights), E)
    want = np.zeros((3, E))
    want[0, [0, 4]], want[1, 2] = weights[0], weights[1, 1]
    np.testing.assert_array_equal(array(dense), want)
    tokens = np.array([[1, 0], [2, 3], [3, 3]])
    dense = operation(package, "experts.dense.expert_choice_weights")(tensor(package, tokens), tensor(package, weights), 3)
    want = np.zeros((3, 3))
    want[1, 0], want[0, 0], want[2, 1] = weights[0, 0], weights[0, 1], weights[1, 0]
    np.testing.assert_array_equal(array(dense), want)


def clamped(package: str) -> Callable:
    swiglu = operation(package, "activation.clamped_swiglu")
    return lambda gate, up: swiglu(gate, up, 0.7, 1.7)


@pytest.mark.parametrize("package", PACKAGES)
def test_experts_are_those_of_transformers(package: str, rng: np.random.Generator):
    x, chosen, weights, p = rng.normal(size=(9, D)), drawn_choices(rng, 9, 2), rng.random((9, 2)), parameters(rng, True, True)
    sizes = {"num_experts": E, "num_local_experts": E, "hidden_size": D, "moe_intermediate_size": F, "intermediate_size": F}
    c = SimpleNamespace(**sizes, hidden_act="silu", swiglu_alpha=1.7, swiglu_limit=0.7, _experts_implementation="eager")
    qwen, oss = Qwen3MoeExperts(c), GptOssExperts(c)
    both = torch.tensor(np.concatenate([p["gate"], p["up"]], axis=-1))
    qwen.gate_up_proj.data, qwen.down_proj.data = both.mT, torch.tensor(p["down"]).mT
    oss.gate_up_proj.data = torch.tensor(np.stack([p["gate"], p["up"]], axis=-1).reshape(E, D, -1))
    oss.gate_up_proj_bias.data = torch.tensor(np.stack([p["gate_bias"], p["up_bias"]], axis=-1).reshape(E, -1))
    oss.down_proj.data, oss.down_proj_bias.data = torch.tensor(p["down"]), torch.tensor(p["down_bias"])
    plain = {name: value for name, value in p.items() if "bias" not in name}
    activate = jax_activate if package == "jax_transformer" else torch_activate
    for module, given, function in [(qwen, plain, activate), (oss, p, clamped(package))]:
        with torch.no_grad():
            want = module(torch.tensor(x), torch.tensor(chosen), torch.tensor(weights))
        combine = operation(package, "experts.dense.token_choice_weights")(tensor(package, chosen), tensor(package, weights), E)
        experts = operation(package, "experts.dense.Experts")(**{name: tensor(package, v) for name, v in given.items()})
        got = operation(package, "experts.dense.dense_experts")(tensor(package, x), combine, experts, function)
        np.testing.assert_allclose(array(got), array(want), **SEQUENCE)


@pytest.mark.parametrize("package", PACKAGES)
def test_16_bit_outputs_are_added_up_in_float32(package: str):
    # In bfloat16 1 + 2^-9 is 1, and nothing would be left.
    one = tensor(package, np.ones((2, 1, 1)), "bfloat16")
    experts = operation(package, "experts.dense.Experts")(one, one)
    weights = tensor(package, np.array([[1 + 2.0**-9, -1]]), "float32")
    y = operation(package, "experts.dense.dense_experts")(one[0], weights, experts, lambda x: x)
    assert y.dtype == one.dtype
    np.testing.assert_array_equal(array(y), 2.0**-9)
