"""Feed-forward modules: their parameters, their taps, and the modules of transformers that they stand for."""

from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from transformers import ApertusConfig, CLIPTextConfig, GemmaConfig, GptOssConfig, LlamaConfig, NemotronConfig
from transformers.activations import XIELUActivation
from transformers.models.apertus.modeling_apertus import ApertusMLP
from transformers.models.clip.modeling_clip import CLIPMLP
from transformers.models.gemma.modeling_gemma import GemmaMLP
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.nemotron.modeling_nemotron import NemotronMLP

from jax_transformer import config
from jax_transformer.nn.activation import build_activation
from jax_transformer.nn.context import Context
from jax_transformer.nn.ffn import FFN
from jax_transformer.nn.params import Maker, get_params, param_specs, with_params
from jax_transformer.nn.tap import Tap
from jax_transformer.ops.mask import causal_mask
from parity_tests.ops.pairs import array
from parity_tests.tolerances import INIT_SIGMAS, OPERATION
from torch_reference.nn.activation import build_activation as build_torch_activation
from torch_reference.nn.context import Context as TorchContext
from torch_reference.nn.ffn import FFN as TORCH_FFN
from torch_reference.nn.params import Maker as TorchMaker
from torch_reference.nn.tap import Tap as TorchTap
from torch_reference.ops.mask import causal_mask as torch_causal_mask

ACTIVATIONS: tuple[config.Activation, ...] = get_args(config.Activation)
RECIPE = (config.Dtype(param="float64", compute="float64", logits="float64"), 0.02, 0.005)
D, F = 6, 11
CONTEXT, TORCH_CONTEXT = Context(causal_mask(5)), TorchContext(torch_causal_mask(5))
"""What these networks do not read."""


def makers() -> tuple[Any, Any]:
    return Maker(jax.random.key(0), *RECIPE), TorchMaker(torch.Generator(), *RECIPE)


def modules(c: config.Ffn) -> tuple[Any, Any]:
    ours, theirs = makers()
    return FFN[type(c)](c, D, ours), TORCH_FFN[type(c)](c, D, theirs)


def as_jax(state: dict[str, Any]) -> dict[str, jax.Array]:
    """A torch module's values, or gradients, by the names and in the layouts of the JAX module."""
    kernels = {name: jnp.asarray(value.detach().numpy().T) for name, value in state.items() if name.endswith(".weight")}
    rest = {name: jnp.asarray(value.detach().numpy()) for name, value in state.items() if not name.endswith(".weight")}
    return {name.replace(".weight", ".kernel"): value for name, value in (kernels | rest).items()}


def perturbed(module: nn.Module, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Values that keep what they multiply at about its size."""
    return {name: torch.tensor(0.4 * rng.normal(size=value.shape)) for name, value in module.state_dict().items()}


def filled(c: config.Ffn, state: dict[str, torch.Tensor]) -> tuple[Any, Any]:
    """Both modules with the values of ``state``: torch's names, and no more or fewer than the module has."""
    ours, theirs = modules(c)
    theirs.load_state_dict(state)
    assert as_jax(state).keys() == get_params(ours).keys()
    return with_params(ours, as_jax(state)), theirs


CONFIGS = [
    *(config.Mlp(hidden_dim=F, activation=name, bias=i % 2 == 0) for i, name in enumerate(ACTIVATIONS)),
    *(config.Glu(hidden_dim=F, activation=name, bias=i % 2 == 1) for i, name in enumerate(ACTIVATIONS)),
    *(config.ClampedGlu(hidden_dim=F, limit=1.5, alpha=1.3, bias=bias) for bias in (True, False)),
]


@pytest.mark.parametrize("c", CONFIGS, ids=str)
def test_both_packages_have_the_same_values_taps_and_gradients(c: config.Ffn, rng: np.random.Generator):
    ours, theirs = filled(c, perturbed(modules(c)[1], rng))
    x, seen, taps, torch_taps = rng.normal(size=(2, 5, D)), rng.normal(size=(2, 5, D)), {}, {}
    leaf = torch.tensor(x, requires_grad=True)
    y, _ = theirs(leaf, TORCH_CONTEXT, tap=TorchTap(torch_taps))
    np.testing.assert_allclose(array(y), np.asarray(ours(jnp.asarray(x), CONTEXT, tap=Tap(taps))[0]), **OPERATION)
    assert taps.keys() == torch_taps.keys() == {"hidden"}
    np.testing.assert_allclose(array(torch_taps["hidden"]), taps["hidden"], **OPERATION)
    names, parameters = zip(*theirs.named_parameters(), strict=True)
    own, *rest = torch.autograd.grad((y * torch.tensor(seen)).sum(), (leaf, *parameters))
    loss = jax.grad(lambda params, x: (with_params(ours, params)(x, CONTEXT)[0] * seen).sum(), argnums=(0, 1))
    params, inputs = loss(get_params(ours), jnp.asarray(x))
    np.testing.assert_allclose(own, inputs, **OPERATION)
    for name, gradient in as_jax(dict(zip(names, rest, strict=True))).items():
        np.testing.assert_allclose(params[name], gradient, **OPERATION)


@pytest.mark.parametrize("c", CONFIGS, ids=str)
def test_parameters_are_those_that_the_config_asks_for(c: config.Ffn):
    names = ["up_proj", "down_proj"] if isinstance(c, config.Mlp) else ["gate_proj", "up_proj", "down_proj"]
    want = {f"{name}.kernel": (("ffn", "embed") if name == "down_proj" else ("embed", "ffn"), 1) for name in names}
    want |= {f"{name}.bias": (("embed",) if name == "down_proj" else ("ffn",), 0) for name in names if c.bias}
    learned = getattr(c, "activation", None) == "xielu"
    want |= {f"activation.{name}": (("scalar",), 0) for name in ("alpha_p", "alpha_n") if learned}
    specs = param_specs(modules(c)[0])
    assert {name: (spec.axes, spec.contracted) for name, spec in specs.items()} == want
    sizes = {"embed": D, "ffn": F, "scalar": 1}
    assert all(spec.shape == tuple(sizes[axis] for axis in spec.axes) for spec in specs.values())


def test_only_the_last_projection_begins_with_the_residual_std():
    for kind in (config.Mlp, config.Glu, config.ClampedGlu):
        c = kind(hidden_dim=3000)
        for module, own in zip(modules(c), (get_params, lambda m: as_jax(m.state_dict())), strict=True):
            for name, value in own(module).items():
                wanted = 0.005 if name.startswith("down") else 0.02
                np.testing.assert_allclose(np.std(value), wanted, rtol=INIT_SIGMAS / np.sqrt(2 * value.size))


@pytest.mark.parametrize("kind", [config.Mlp, config.Glu, config.ClampedGlu])
def test_the_width_may_be_a_multiple_of_the_model_s(kind: Any):
    # int(6 * 2.75) = 16, and the next multiple of 5 is 20.
    ours, theirs = modules(kind(expansion_factor=2.75, multiple_of=5))
    assert param_specs(ours)["down_proj.kernel"].shape == (20, D)
    assert tuple(theirs.down_proj.weight.shape) == (D, 20)


def activations(name: config.Activation) -> tuple[Any, Any]:
    ours, theirs = makers()
    return build_activation(name, ours), build_torch_activation(name, theirs)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_of_the_config_is_a_module_with_parameters_only_if_it_learns(name: config.Activation):
    ours, theirs = activations(name)
    want = {"alpha_p", "alpha_n"} if name == "xielu" else set()
    assert get_params(ours).keys() == theirs.state_dict().keys() == want
    x = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(array(theirs(torch.tensor(x))), np.asarray(ours(jnp.asarray(x))), **OPERATION)


def test_xielu_begins_as_in_transformers():
    ours, theirs = activations("xielu")
    for name, want in XIELUActivation(dtype=torch.float64).named_parameters():
        np.testing.assert_allclose(get_params(ours)[name], want.detach(), **OPERATION)
        np.testing.assert_allclose(theirs.state_dict()[name], want.detach(), **OPERATION)


SIZES: dict[str, Any] = {"hidden_size": D, "intermediate_size": F, "num_attention_heads": 1}

FAMILIES: dict[str, tuple[config.Ffn, Callable[[], nn.Module], dict[str, str]]] = {
    "llama": (config.Glu(hidden_dim=F, bias=True), lambda: LlamaMLP(LlamaConfig(**SIZES, mlp_bias=True)), {}),
    "gemma": (config.Glu(hidden_dim=F, activation="gelu_tanh"), lambda: GemmaMLP(GemmaConfig(**SIZES)), {}),
    "nemotron": (
        config.Mlp(hidden_dim=F, activation="relu2", bias=True),
        lambda: NemotronMLP(NemotronConfig(**SIZES, mlp_bias=True)),
        {},
    ),
    "clip": (
        config.Mlp(hidden_dim=F, activation="quick_gelu", bias=True),
        lambda: CLIPMLP(CLIPTextConfig(**SIZES)),
        {"fc1": "up_proj", "fc2": "down_proj"},
    ),
    "apertus": (
        config.Mlp(hidden_dim=F, activation="xielu"),
        lambda: ApertusMLP(ApertusConfig(**SIZES, dtype=torch.float64)),
        {"act_fn": "activation"},
    ),
}
"""Our config, their module, and what it calls its parts."""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_is_that_of_its_family(family: str, rng: np.random.Generator):
    c, build, renamed = FAMILIES[family]
    theirs, state = build().double(), {}
    for name, parameter in theirs.named_parameters():
        parameter.data = torch.tensor(rng.normal(size=parameter.shape))
        part, _, leaf = name.rpartition(".")
        state[f"{renamed.get(part, part)}.{leaf}"] = parameter.data
    x = rng.normal(size=(2, 5, D))
    want = array(theirs(torch.tensor(x)))
    ours, mirror = filled(c, state)
    np.testing.assert_allclose(array(ours(jnp.asarray(x), CONTEXT)[0]), want, **OPERATION)
    np.testing.assert_allclose(array(mirror(torch.tensor(x), TORCH_CONTEXT)[0]), want, **OPERATION)


@pytest.mark.parametrize("limit", [0.5, 7.0])
@pytest.mark.parametrize("alpha", [1.702, 0.9])
def test_a_clamped_glu_is_the_one_expert_of_gpt_oss(limit: float, alpha: float, rng: np.random.Generator):
    c = config.ClampedGlu(hidden_dim=F, limit=limit, alpha=alpha, bias=True)
    state = perturbed(modules(c)[1], rng)
    experts = GptOssExperts(GptOssConfig(**SIZES, num_local_experts=1, swiglu_limit=limit, swiglu_alpha=alpha)).double()
    pairs = {
        name: torch.stack([state[f"gate_proj.{name}"], state[f"up_proj.{name}"]], 1).flatten(0, 1)
        for name in ("weight", "bias")
    }
    experts.load_state_dict(
        {
            "gate_up_proj": pairs["weight"].T[None],
            "gate_up_proj_bias": pairs["bias"][None],
            "down_proj": state["down_proj.weight"].T[None],
            "down_proj_bias": state["down_proj.bias"][None],
        }
    )
    x = rng.normal(size=(1, 5, D)) * 8
    want = experts(torch.tensor(x[0]), torch.zeros(5, 1, dtype=torch.long), torch.ones(5, 1).double()).detach().numpy()
    ours, mirror = filled(c, state)
    np.testing.assert_allclose(array(ours(jnp.asarray(x), CONTEXT)[0])[0], want, **OPERATION)
    np.testing.assert_allclose(array(mirror(torch.tensor(x), TORCH_CONTEXT)[0])[0], want, **OPERATION)
