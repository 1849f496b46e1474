"""Mixtures of experts as modules: both packages, every implementation, padding, places, noise."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import Tensor

from jax_transformer import config as c
from jax_transformer.config.errors import ConfigError
from jax_transformer.nn.context import Context
from jax_transformer.nn.ffn.moe import Moe
from jax_transformer.nn.params import Maker, get_params, param_specs, with_params
from jax_transformer.nn.tap import Tap
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.experts.dense import Experts, dense_experts, token_choice_weights
from jax_transformer.ops.experts.megablox import megablox_experts
from jax_transformer.ops.mask import causal_mask
from parity_tests.ops.mixtures import drawn_choices, jax_activate, parameters
from parity_tests.ops.pairs import array
from parity_tests.tolerances import KERNEL, MODULE, SIMILAR, relative_error
from torch_reference.nn.context import Context as TorchContext
from torch_reference.nn.ffn.moe import Moe as TorchMoe
from torch_reference.nn.params import Maker as TorchMaker
from torch_reference.nn.tap import Tap as TorchTap
from torch_reference.ops.dropout import Noise as TorchNoise
from torch_reference.ops.mask import causal_mask as torch_causal_mask

D, E, F, ROWS, LENGTH = 6, 8, 5, 2, 7
RECIPE = (c.Dtype(param="float64", compute="float64", logits="float64"), 0.02, 0.005)
GLU, MLP = c.Glu(hidden_dim=F), c.Mlp(hidden_dim=F, activation="relu2", bias=True)
CLAMPED = c.ClampedGlu(hidden_dim=F, limit=0.7, bias=True)
GROUPS = c.ExpertGroups(count=4, kept=2)
SEGMENTS = np.array([[1, 1, 1, 2, 2, 0, 0], [0, 1, 1, 1, 1, 1, 1]], np.int32)

MIXTURES = {
    "softmax": c.Moe(num_experts=E, routing=c.SoftmaxTopK(top_k=2, choice_bias=True), expert=GLU, router_bias=True),
    "shared": c.Moe(num_experts=E, routing=c.TopKSoftmax(top_k=3), expert=CLAMPED, shared=MLP, shared_gate=True),
    "sigmoid": c.Moe(num_experts=E, routing=c.SigmoidTopK(top_k=2, choice_bias=True, groups=GROUPS), expert=MLP, shared=GLU),
    "weighed inputs": c.Moe(num_experts=E, routing=c.SigmoidTopK(top_k=2), expert=CLAMPED, shared=GLU, weigh="input"),
    "choosing inputs": c.Moe(num_experts=E, routing=c.ExpertChoice(capacity_factor=1.3), expert=MLP, weigh="input"),
    "full": c.Moe(num_experts=E, routing=c.SoftmaxTopK(top_k=2), expert=GLU, capacity_factor=0.7),
    "choosing": c.Moe(num_experts=E, routing=c.ExpertChoice(capacity_factor=1.3), expert=MLP),
}


def torch_module(own: c.Moe, rng: np.random.Generator) -> TorchMoe:
    """With values that nothing hides behind."""
    module = TorchMoe(own, D, TorchMaker(torch.Generator(), *RECIPE))
    module.load_state_dict({name: torch.tensor(0.5 * rng.normal(size=v.shape)) for name, v in module.state_dict().items()})
    return module


def jax_module(own: c.Moe, weights: dict[str, Tensor]) -> Moe:
    """With the same values."""
    module, params = Moe(own, D, Maker(jax.random.key(0), *RECIPE)), {}
    for path in param_specs(module):
        value = weights[path.replace("kernel", "weight")].detach()
        params[path] = jnp.asarray((value.transpose(-1, -2) if path.endswith("kernel") else value).numpy())
    assert len(params) == len(weights)
    return with_params(module, params)


def contexts(segments: np.ndarray | None) -> tuple[Context, TorchContext]:
    if segments is None:
        return Context(causal_mask(LENGTH)), TorchContext(torch_causal_mask(LENGTH))
    masks = causal_mask(LENGTH, jnp.asarray(segments)), torch_causal_mask(LENGTH, torch.tensor(segments))
    return Context(masks[0]), TorchContext(masks[1])


def outcome(module: Moe, x: np.ndarray, segments: np.ndarray | None) -> list[np.ndarray]:
    """Outputs, the use of experts, and the gradients of everything by everything."""
    context, way = contexts(segments)[0], np.cos(np.arange(x.size)).reshape(x.shape)

    def total(params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        y, usage = with_params(module, params)(x, context)
        return (y * way).sum() + usage.load_balance + 0.3 * usage.router_z, (y, usage)

    gradients, (y, usage) = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(get_params(module), jnp.asarray(x))
    return [np.asarray(value) for value in (y, *usage, gradients[1], *gradients[0].values())]


def torch_outcome(module: TorchMoe, x: np.ndarray, segments: np.ndarray | None) -> tuple[list[np.ndarray], dict[str, Any]]:
    """The same of the mirror, and its gradients by name."""
    leaf = torch.tensor(x, requires_grad=True)
    y, usage = module(leaf, contexts(segments)[1])
    loss = (y * torch.tensor(np.cos(np.arange(x.size)).reshape(x.shape))).sum() + usage.load_balance + 0.3 * usage.router_z
    loss.backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in module.named_parameters()}
    return [array(value) for value in (y, *usage, leaf.grad)], {name: array(value) for name, value in gradients.items()}


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["plain", "packed"])
@pytest.mark.parametrize("name", MIXTURES)
def test_both_packages_and_every_implementation_are_the_same(name: str, segments: Any, rng: np.random.Generator):
    mirror, x = torch_module(MIXTURES[name], rng), rng.normal(size=(ROWS, LENGTH, D))
    want, by_name = torch_outcome(mirror, x, segments)
    for implementation in ("dense", "grouped"):
        module = jax_module(MIXTURES[name].model_copy(update={"implementation": implementation}), mirror.state_dict())
        got = outcome(module, x, segments)
        np.testing.assert_array_equal(got[3], want[3])
        for ours, theirs in zip(got[: len(want)], want, strict=True):
            np.testing.assert_allclose(ours, theirs, **MODULE)
        for path, gradient in zip(get_params(module), got[len(want) :], strict=True):
            theirs = by_name[path.replace("kernel", "weight")]
            theirs = theirs.swapaxes(-1, -2) if path.endswith("kernel") else theirs
            np.testing.assert_allclose(gradient, theirs, err_msg=path, **MODULE)


@pytest.mark.parametrize("name", MIXTURES)
def test_padding_gets_the_shared_network_alone_and_changes_nothing(name: str, rng: np.random.Generator):
    module, x = torch_module(MIXTURES[name], rng), rng.normal(size=(ROWS, LENGTH, D))
    taps, real, context = {}, SEGMENTS != 0, contexts(SEGMENTS)[1]
    y, usage = module(torch.tensor(x), context, tap=TorchTap(taps))
    assert not taps["routed"][torch.tensor(~real)].any()
    np.testing.assert_array_equal(array(y)[~real], array(taps["shared"])[~real] if "shared" in taps else 0.0)
    other, used = module(torch.tensor(np.where(real[..., None], x, rng.normal(size=x.shape))), context)
    np.testing.assert_array_equal(array(other)[real], array(y)[real])
    for before, after in zip(usage, used, strict=True):
        np.testing.assert_array_equal(array(before), array(after))
    choices = getattr(MIXTURES[name].routing, "top_k", None)
    assert int(usage.counts.sum()) == (real.sum() * choices if choices else E * np.ceil(1.3 * real.sum() / E))


def test_a_full_expert_drops_the_later_tokens(rng: np.random.Generator):
    module, taps = torch_module(MIXTURES["full"], rng), {}
    same = torch.tensor(rng.normal(size=(1, 1, D))).expand(ROWS, LENGTH, D)
    module(same, contexts(None)[1], tap=TorchTap(taps))
    kept = (taps["weights"] != 0).any(-1).flatten().tolist()
    places = int(np.ceil(0.7 * 2 * ROWS * LENGTH / E))
    assert kept == [True] * places + [False] * (ROWS * LENGTH - places)


def test_noise_moves_the_logits_by_its_standard_deviation_in_training_only(rng: np.random.Generator):
    own = MIXTURES["softmax"].model_copy(update={"router_noise": 0.7, "implementation": "dense"})
    mirror, quieted = torch_module(own, rng), own.model_copy(update={"router_noise": 0.0})
    module, still = jax_module(own, mirror.state_dict()), jax_module(quieted, mirror.state_dict())
    x = rng.normal(size=(200, LENGTH, D))
    context, torch_context = contexts(None)

    def logits(module: Any, *given: Any, tap: Any = TorchTap, **options: Any) -> np.ndarray:
        taps: dict[str, Any] = {}
        module(*given, **options, tap=tap(taps))
        return array(taps["logits"])

    quiet = logits(still, jnp.asarray(x), context, tap=Tap)
    np.testing.assert_array_equal(logits(module, jnp.asarray(x), context, tap=Tap), quiet)
    noisy = [
        logits(module, jnp.asarray(x), context, tap=Tap, noise=Noise(jax.random.key(1), 0.0)),
        logits(mirror, torch.tensor(x), torch_context, noise=TorchNoise(torch.tensor(1), 0.0)),
    ]
    for values in noisy:
        moved = (values - quiet).ravel()
        assert abs(moved.mean()) < 0.7 * 5 / moved.size**0.5
        assert abs(np.log(moved.std() / 0.7)) < 5 / (2 * moved.size) ** 0.5
        assert abs(np.mean(np.abs(moved) > 0.7) - 0.3173) < 0.02
        assert abs(np.corrcoef(moved[:-1], moved[1:])[0, 1]) < 5 / moved.size**0.5


@pytest.fixture
def narrow() -> Iterator[None]:
    """Without the 64-bit mode of the other tests, which the kernel cannot be interpreted in."""
    with jax.enable_x64(False):
        yield


LOADS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "dropped": lambda rng: np.where(rng.random((11, 2)) < 0.2, 5, drawn_choices(rng, 11, 2)),
    "one expert": lambda rng: np.full((11, 1), 3),
    "all dropped": lambda rng: np.full((11, 2), 5),
    "across tiles": lambda rng: np.where(rng.random((150, 1)) < 0.9, [[1, 4]], [[4, 2]]),
}
"""Of 11 tokens, fewer than a tile, and of 150, whose experts meet inside of tiles and of which 0 and 3 have none."""


@pytest.mark.parametrize("dtype", KERNEL)
@pytest.mark.parametrize(("load", "weigh"), [*((load, "output") for load in LOADS), ("dropped", "input")])
def test_the_kernel_for_tpus_is_the_definition(load: str, weigh: Any, dtype: str, rng: np.random.Generator, narrow: None):
    experts = Experts(**{name: jnp.asarray(v, dtype) for name, v in parameters(rng, True, True).items()})
    chosen = LOADS[load](rng)
    x, weights = jnp.asarray(rng.normal(size=(len(chosen), 3)), dtype), jnp.asarray(rng.normal(size=chosen.shape), jnp.float32)
    way = jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape).astype(dtype)

    @jax.jit
    def kernel(x: jax.Array, weights: jax.Array, experts: Experts) -> jax.Array:
        return megablox_experts(x, jnp.asarray(chosen), weights, experts, jax_activate, weigh=weigh, interpret=True)

    @jax.jit
    def definition(x: jax.Array, weights: jax.Array, experts: Experts) -> jax.Array:
        return dense_experts(x, token_choice_weights(jnp.asarray(chosen), weights, 5), experts, jax_activate, weigh=weigh)

    def results(form: Callable[..., jax.Array], *given: Any) -> list[jax.Array]:
        mixed, pull = jax.vjp(form, *given)
        return jax.tree.leaves((mixed, pull(way.astype(mixed.dtype))))

    truths = results(definition, *jax.tree.map(lambda v: v.astype("float32"), (x, weights, experts)))
    own, plain = (max(map(relative_error, results(form, x, weights, experts), truths)) for form in (kernel, definition))
    assert own <= max(KERNEL[dtype], SIMILAR * plain)


def test_the_kernel_for_tpus_is_refused_elsewhere(rng: np.random.Generator):
    own = MIXTURES["softmax"].model_copy(update={"implementation": "megablox"})
    module = jax_module(own, torch_module(own, rng).state_dict())
    with pytest.raises(ConfigError, match="megablox is a kernel for TPUs, but the devices are of kind cpu: use auto"):
        module(jnp.zeros((ROWS, LENGTH, D)), contexts(None)[0])
