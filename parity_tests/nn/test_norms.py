"""Norm modules: their parameters, how they begin, and the modules of transformers that they stand for."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.nanochat.modeling_nanochat import NanoChatRMSNorm
from transformers.models.nemotron.modeling_nemotron import NemotronLayerNorm1P
from transformers.models.olmo.modeling_olmo import OlmoLayerNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from jax_transformer import config
from jax_transformer.nn.norm import build_norm
from jax_transformer.nn.params import Maker, get_params, param_specs, with_params
from parity_tests.ops.pairs import array
from parity_tests.tolerances import FLOAT32_MODULE, FLOAT32_OPERATION, OPERATION
from torch_reference.nn.norm import build_norm as build_torch_norm
from torch_reference.nn.params import Maker as TorchMaker

HEADS = {"heads": 3, "head_dim": 8}

CONFIGS = [
    *(
        config.RMSNorm(eps=0.1, weight=weight, cast=cast)
        for weight in ("scale", "one_plus")
        for cast in ("before_weight", "after_weight")
    ),
    config.RMSNorm(eps=0.1, weight="none"),
    *(
        config.LayerNorm(eps=0.1, weight=weight, bias=bias)
        for weight in ("scale", "one_plus", "none")
        for bias in (True, False)
    ),
    *(config.ScaleNorm(eps=0.1, eps_rule=rule) for rule in ("add", "clamp")),
    config.ScaleNorm(eps=0.1, init="one"),
    config.L2Norm(eps=0.1),
]


def modules(c: config.Norm, dims: int | dict[str, int], dtype: config.DtypeName = "float64") -> tuple[Any, Any]:
    """The JAX module and the torch one, as they begin."""
    recipe = (config.Dtype(param=dtype, compute=dtype, logits="float64"), 0.02, 0.02)
    ours = build_norm(c, dims, Maker(jax.random.key(0), *recipe))
    return ours, build_torch_norm(c, dims, TorchMaker(torch.Generator(), *recipe))


def filled(ours: Any, theirs: nn.Module, state: dict[str, torch.Tensor]) -> tuple[Any, nn.Module]:
    """Both with the values of ``state``, which has torch's names and everything that the modules have."""
    theirs.load_state_dict(state)
    names = {name.replace("weight", "scale"): value for name, value in state.items()}
    assert names.keys() == get_params(ours).keys()
    dtypes = {name: value.dtype for name, value in get_params(ours).items()}
    return with_params(ours, {name: jnp.asarray(v.double().numpy(), dtypes[name]) for name, v in names.items()}), theirs


def perturbed(module: nn.Module, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(rng.normal(size=value.shape)).to(value.dtype) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("c", CONFIGS, ids=str)
@pytest.mark.parametrize("dims", [8, HEADS], ids=["width", "heads"])
def test_both_packages_have_the_same_values_and_gradients(c: config.Norm, dims: Any, rng: np.random.Generator):
    ours, theirs = modules(c, dims)
    ours, theirs = filled(ours, theirs, perturbed(theirs, rng))
    x, seen = rng.normal(size=(2, 5, 3, 8)), rng.normal(size=(2, 5, 3, 8))
    leaf = torch.tensor(x, requires_grad=True)
    y = theirs(leaf)
    np.testing.assert_allclose(array(y), np.asarray(ours(jnp.asarray(x))), **OPERATION)
    parameters = dict(theirs.named_parameters())
    own, *rest = torch.autograd.grad((y * torch.tensor(seen)).sum(), (leaf, *parameters.values()))
    loss = jax.grad(lambda params, x: (with_params(ours, params)(x) * seen).sum(), argnums=(0, 1))
    params, inputs = loss(get_params(ours), jnp.asarray(x))
    np.testing.assert_allclose(own, inputs, **OPERATION)
    for name, gradient in zip(parameters, rest, strict=True):
        np.testing.assert_allclose(gradient, params[name.replace("weight", "scale")], **OPERATION)


@pytest.mark.parametrize("c", CONFIGS, ids=str)
def test_a_fresh_norm_multiplies_by_one(c: config.Norm, rng: np.random.Generator):
    x = rng.normal(size=(2, 5, 16))
    centred = x - x.mean(-1, keepdims=True) if isinstance(c, config.LayerNorm) else x
    squares = (centred**2).sum(-1, keepdims=True)
    if isinstance(c, config.ScaleNorm):
        length = np.sqrt(squares)
        divisor = (length + c.eps if c.eps_rule == "add" else length) / (4.0 if c.init == "sqrt_dim" else 1.0)
    else:
        divisor = np.sqrt((squares if isinstance(c, config.L2Norm) else squares / 16) + c.eps)
    ours, theirs = modules(c, 16)
    np.testing.assert_allclose(ours(jnp.asarray(x)), centred / divisor, **OPERATION)
    np.testing.assert_allclose(array(theirs(torch.tensor(x))), centred / divisor, **OPERATION)


@pytest.mark.parametrize("c", CONFIGS, ids=str)
def test_parameters_are_those_that_the_config_asks_for(c: config.Norm):
    ours, theirs = modules(c, HEADS)
    heads = ((3, 8), ("heads", "head_dim"))
    want = {"scale": heads} if getattr(c, "weight", "none") != "none" else {}
    want |= {"bias": ((24,), ("norm",))} if getattr(c, "bias", False) else {}
    want |= {"scale": ((1,), ("scalar",))} if isinstance(c, config.ScaleNorm) else {}
    specs = param_specs(ours)
    assert {name: (spec.shape, spec.axes) for name, spec in specs.items()} == want
    assert all(spec.contracted == 0 for spec in specs.values())
    shapes = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    assert shapes == {name.replace("scale", "weight"): shape for name, (shape, _) in want.items()}


def test_a_width_is_one_dimension_named_norm():
    ours, _ = modules(config.RMSNorm(), 8)
    assert param_specs(ours)["scale"].axes == ("norm",)


@pytest.mark.parametrize("c", [config.RMSNorm(eps=0.1), config.LayerNorm(eps=0.1)], ids=str)
def test_a_head_is_normalised_by_itself_with_weights_of_its_own(c: config.Norm, rng: np.random.Generator):
    ours, theirs = modules(c, HEADS)
    state = perturbed(theirs, rng)
    both, x = filled(ours, theirs, state), rng.normal(size=(2, 5, 3, 8))
    for head in range(3):
        alone = filled(*modules(c, 8), {name: value.reshape(3, 8)[head] for name, value in state.items()})
        for module, single, as_tensor in zip(both, alone, (jnp.asarray, torch.tensor), strict=True):
            want = array(single(as_tensor(x[:, :, head])))
            np.testing.assert_allclose(array(module(as_tensor(x)))[:, :, head], want, **OPERATION)


THEIRS: dict[str, tuple[config.Norm, Callable[[], nn.Module]]] = {
    "llama": (config.RMSNorm(eps=1e-5), lambda: LlamaRMSNorm(64, eps=1e-5)),
    "olmo2": (config.RMSNorm(eps=1e-5, cast="after_weight"), lambda: Olmo2RMSNorm(64, eps=1e-5)),
    "gemma": (config.RMSNorm(weight="one_plus", cast="after_weight"), lambda: GemmaRMSNorm(64)),
    "nanochat": (config.RMSNorm(weight="none"), NanoChatRMSNorm),
    "bert": (config.LayerNorm(eps=1e-12), lambda: nn.LayerNorm(64, eps=1e-12)),
    "cohere": (config.LayerNorm(bias=False), lambda: CohereLayerNorm(64)),
    "olmo": (config.LayerNorm(weight="none", bias=False), lambda: OlmoLayerNorm(64)),
    "nemotron": (config.LayerNorm(weight="one_plus"), lambda: NemotronLayerNorm1P(64)),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", THEIRS)
def test_a_norm_is_that_of_its_family(family: str, dtype: config.DtypeName, rng: np.random.Generator):
    c, build = THEIRS[family]
    theirs = build().to(getattr(torch, dtype))
    state = perturbed(theirs, rng)
    if family == "nemotron" and dtype == "bfloat16":
        # It adds 1 in 16 bits, and a weight that loses nothing there is compared: the sum here is always made in float32.
        state["weight"] = (state["weight"] * 64).round() / 64
    theirs.load_state_dict(state)
    x = torch.tensor(3 + rng.normal(size=(2, 5, 64))).to(getattr(torch, dtype))
    want = array(theirs(x))
    for module, own in zip(filled(*modules(c, 64, dtype), state), (jnp.asarray(x.float().numpy(), dtype), x), strict=True):
        if dtype == "bfloat16":
            np.testing.assert_array_equal(array(module(own)), want)
        else:
            np.testing.assert_allclose(array(module(own)), want, **FLOAT32_MODULE)


@pytest.mark.parametrize(
    "c", [config.RMSNorm(weight="one_plus", cast="after_weight"), config.LayerNorm(weight="one_plus")], ids=str
)
def test_one_is_added_to_a_16_bit_weight_without_rounding(c: config.Norm):
    # In bfloat16 1 + 2^-9 is 1.
    ours, theirs = modules(c, 2, "bfloat16")
    state = {name: torch.full_like(value, 2.0**-9 if name == "weight" else 0.0) for name, value in theirs.state_dict().items()}
    x = np.array([[-1.0, 1.0]], np.float32)
    for module, own in zip(filled(ours, theirs, state), (jnp.asarray(x), torch.tensor(x)), strict=True):
        np.testing.assert_allclose(array(module(own)), x * (1 + 2.0**-9) / np.sqrt(1 + c.eps), **FLOAT32_OPERATION)


@pytest.mark.parametrize("dims", [16, {"heads": 3, "head_dim": 16}], ids=["width", "heads"])
@pytest.mark.parametrize(("init", "length"), [("one", 1.0), ("sqrt_dim", 4.0)])
def test_a_fresh_scale_norm_gives_vectors_of_length_one_or_the_root_of_the_width(
    init: str, length: float, dims: Any, rng: np.random.Generator
):
    x = rng.normal(size=(2, 5, 3, 16))
    c = config.ScaleNorm.model_validate({"eps": 1e-12, "init": init})
    for module, own in zip(modules(c, dims), (jnp.asarray(x), torch.tensor(x)), strict=True):
        np.testing.assert_allclose(np.linalg.norm(array(module(own)), axis=-1), length)
