"""Nonlinearities."""

from types import SimpleNamespace
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.activations import ACT2FN, XIELUActivation
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

from jax_transformer.config import Activation
from parity_tests.ops.pairs import PACKAGES, agreed, array, call, operation, tensor
from parity_tests.tolerances import OPERATION

X = np.concatenate([np.linspace(-12, 12, 97), [-1e3, -1e-5, -1e-9, 0.0, 1e-9, 1e3]])

PURE = sorted(set(get_args(Activation)) - {"xielu"})

TRANSFORMERS = {
    "silu": "silu",
    "gelu_erf": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
    "sigmoid": "sigmoid",
    "relu": "relu",
    "relu2": "relu2",
    "tanh": "tanh",
}

LIMIT, ALPHA = 7.0, 1.702
ALPHAS = (np.array([0.3]), np.array([-0.7]))


def values(package: str, name: str) -> np.ndarray:
    return array(operation(package, "activation.ACTIVATION")[name](tensor(package, X)))


def gradients(package: str, function: Any, *arguments: np.ndarray) -> list[np.ndarray]:
    """Of the sum of the result, with respect to every argument."""
    if package == "jax_transformer":
        grad = jax.grad(lambda *own: function(*own).sum(), argnums=tuple(range(len(arguments))))
        return [np.asarray(value) for value in grad(*map(jnp.asarray, arguments))]
    leaves = [torch.tensor(value, requires_grad=True) for value in arguments]
    return [value.numpy() for value in torch.autograd.grad(function(*leaves).sum(), leaves)]


def clamped(package: str) -> Any:
    function = operation(package, "activation.clamped_swiglu")
    return lambda gate, up: function(gate, up, LIMIT, ALPHA)


def gpt_oss(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Its gate and up columns alternate."""
    experts: Any = SimpleNamespace(limit=LIMIT, alpha=ALPHA)
    return GptOssExperts._apply_gate(experts, torch.stack([gate, up], -1).flatten(-2))


def official_xielu(dtype: torch.dtype) -> XIELUActivation:
    module = XIELUActivation(dtype=dtype)
    for parameter, value in zip((module.alpha_p, module.alpha_n), ALPHAS, strict=True):
        parameter.data = torch.tensor(value, dtype=dtype)
    return module


@pytest.mark.parametrize("package", PACKAGES)
def test_the_table_has_all_that_the_config_names_but_the_one_with_parameters(package: str):
    assert set(operation(package, "activation.ACTIVATION")) == set(PURE) == set(TRANSFORMERS)


@pytest.mark.parametrize("name", PURE)
def test_both_packages_compute_what_transformers_does(name: str):
    ours, theirs = values("jax_transformer", name), values("torch_reference", name)
    np.testing.assert_allclose(theirs, ours, **OPERATION)
    np.testing.assert_allclose(ours, ACT2FN[TRANSFORMERS[name]](torch.tensor(X)).numpy(), **OPERATION)


@pytest.mark.parametrize("name", PURE)
def test_both_packages_have_the_same_slopes(name: str):
    ours, theirs = (gradients(package, operation(package, "activation.ACTIVATION")[name], X)[0] for package in PACKAGES)
    np.testing.assert_allclose(theirs, ours, **OPERATION)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_forms_of_gelu_are_told_apart(package: str):
    assert 1e-4 < np.abs(values(package, "gelu_erf") - values(package, "gelu_tanh")).max() < 1e-3
    assert 1e-2 < np.abs(values(package, "gelu_erf") - values(package, "quick_gelu")).max() < 1e-1
    at_one = np.flatnonzero(X == 1.0)[0]
    np.testing.assert_allclose(values(package, "gelu_erf")[at_one], 0.8413447460685429)
    np.testing.assert_allclose(values(package, "gelu_tanh")[at_one], 0.8411919906082768)
    np.testing.assert_allclose(values(package, "quick_gelu")[at_one], 1 / (1 + np.exp(-1.702)))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_squared_relu_is_zero_then_a_parabola(package: str):
    np.testing.assert_array_equal(values(package, "relu2"), np.where(X > 0, X, 0.0) ** 2)


def test_xielu_is_its_formula_and_that_of_transformers():
    a, b = np.log1p(np.exp(ALPHAS[0])), 0.5 + np.log1p(np.exp(ALPHAS[1]))
    want = np.where(X > 0, a * X**2, b * (np.expm1(np.minimum(X, -1e-6)) - X)) + 0.5 * X
    got = agreed("activation.xielu", X, *ALPHAS)
    np.testing.assert_allclose(got, want, **OPERATION)
    np.testing.assert_allclose(got, official_xielu(torch.float64)(torch.tensor(X)).detach().numpy(), **OPERATION)


@pytest.mark.parametrize("package", PACKAGES)
def test_gradients_of_xielu_are_finite_and_those_of_transformers(package: str):
    module = official_xielu(torch.float64)
    leaf = torch.tensor(X, requires_grad=True)
    want = torch.autograd.grad(module(leaf).sum(), (leaf, module.alpha_p, module.alpha_n))
    got = gradients(package, operation(package, "activation.xielu"), X, *ALPHAS)
    for ours, theirs in zip(got, want, strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours, theirs.numpy(), **OPERATION)


def test_xielu_in_16_bits_is_rounded_once():
    x = torch.tensor(np.linspace(-3, 3, 97)).bfloat16().double().numpy()
    alphas = [torch.tensor(alpha).bfloat16().double().numpy() for alpha in ALPHAS]
    want = torch.tensor(call("torch_reference", "activation.xielu", x, *alphas)).float().bfloat16().float().numpy()
    for package in PACKAGES:
        np.testing.assert_array_equal(call(package, "activation.xielu", x, *alphas, dtype="bfloat16"), want)


def test_the_clamped_swiglu_is_its_formula_and_that_of_gpt_oss(rng: np.random.Generator):
    gate, up = rng.normal(size=(2, 2, 3, 50)) * 6
    g, u = np.minimum(gate, LIMIT), np.clip(up, -LIMIT, LIMIT)
    assert max(gate.min(), up.min()) < -LIMIT
    assert min(gate.max(), up.max()) > LIMIT
    got = agreed("activation.clamped_swiglu", gate, up, LIMIT, ALPHA)
    np.testing.assert_allclose(got, g / (1 + np.exp(-ALPHA * g)) * (u + 1), **OPERATION)
    np.testing.assert_allclose(got, gpt_oss(torch.tensor(gate), torch.tensor(up)).numpy(), **OPERATION)


@pytest.mark.parametrize("package", PACKAGES)
def test_gradients_of_the_clamped_swiglu_are_those_of_gpt_oss_at_the_limit_too(package: str):
    gate, up = (grid.ravel() for grid in np.meshgrid([-8.0, -7.0, 0.0, 1.5, 7.0, 8.0], [-8.0, -7.0, 0.0, 1.5, 7.0, 8.0]))
    want = gradients("torch_reference", gpt_oss, gate, up)
    for ours, theirs in zip(gradients(package, clamped(package), gate, up), want, strict=True):
        np.testing.assert_allclose(ours, theirs, **OPERATION)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("argument", [0, 1])
def test_the_clamp_hides_nothing_that_is_not_a_number(package: str, argument: int):
    arguments = [np.array([np.nan]), np.array([1.0])]
    assert np.isnan(call(package, "activation.clamped_swiglu", *arguments[:: 1 - 2 * argument], LIMIT, ALPHA)).all()
