"""Dropout inside a whole model, in both packages. The random numbers differ between them, so statistics are the law."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import torch

from jax_transformer.config import Decoder, Dtype, Embedding
from jax_transformer.convert.layout import from_hub, hub_entries
from jax_transformer.models import abstract_model
from jax_transformer.nn.params import param_specs, with_params
from jax_transformer.ops.dropout import Noise
from parity_tests.builders import attention, block, decoder
from parity_tests.inputs import Hub, perturb
from torch_reference.checkpoint import to_array, to_tensor
from torch_reference.models import build_model as build_torch_model
from torch_reference.ops.dropout import Noise as TorchNoise

ROWS = 4000
DTYPE = Dtype(param="float64", compute="float64", logits="float64")
Forward = Callable[[Decoder, Hub, float | None], Hub]


def jax_taps(config: Decoder, weights: Hub, scale: float | None) -> Hub:
    """Activations of the same tokens in every row; no scale: evaluation."""
    skeleton = abstract_model(config)
    tokens = np.broadcast_to(np.asarray([[3, 1, 4]]), (ROWS, 3))
    noise = None if scale is None else Noise(jax.random.key(7), scale)
    forward = jax.jit(lambda params: with_params(skeleton, params)(tokens, noise=noise, return_taps=True)[1]["taps"])
    return {name: np.asarray(tap) for name, tap in forward(from_hub(weights, param_specs(skeleton))).items()}


def torch_taps(config: Decoder, weights: Hub, scale: float | None) -> Hub:
    """The same in the other package."""
    model = build_torch_model(config)
    model.load_state_dict({name: to_tensor(value) for name, value in weights.items()})
    noise = None if scale is None else TorchNoise(torch.tensor(7), scale)
    with torch.no_grad():
        taps: dict[str, Any] = model(torch.tensor([[3, 1, 4]]).expand(ROWS, 3), noise=noise, return_taps=True)[1]["taps"]
    return {name: to_array(tap) for name, tap in taps.items()}


def draw_weights(config: Decoder, *silenced: str) -> Hub:
    """Perturbed weights; matrices whose name contains one of ``silenced`` are zero."""
    shapes = {entry.hub_name: entry.shape for entry in hub_entries(param_specs(abstract_model(config)))}
    weights = perturb(shapes, seed=5)
    return {name: 0 * value if any(part in name for part in silenced) else value for name, value in weights.items()}


@pytest.fixture(params=[jax_taps, torch_taps])
def taps(request: pytest.FixtureRequest) -> Forward:
    return request.param


def noisy_config(rate: float) -> Decoder:
    return decoder(block(attention(dropout=rate), dropout=rate), embedding=Embedding(dropout=rate), dtype=DTYPE)


def test_the_mean_over_noise_is_the_evaluation(taps: Forward) -> None:
    """Up to the first nonlinearity behind each drop: the embedding, then the attention and its branch, one at a time."""
    for changed, tap in (
        ({"embedding": Embedding(dropout=0.3)}, "embed"),
        ({"stack": decoder(block(attention(dropout=0.3))).stack}, "stack.layers.0.attn.mixed"),
        ({"stack": decoder(block(dropout=0.3)).stack}, "stack.layers.0.output"),
        (
            {"stack": decoder(block(), stack={"drop_path": 0.3, "drop_path_schedule": "constant"}).stack},
            "stack.layers.0.output",
        ),
    ):
        config = decoder(dtype=DTYPE).model_copy(update=changed)
        weights = draw_weights(config, "down_proj")
        noisy, still = taps(config, weights, 1.0)[tap], taps(config, weights, None)[tap]
        errors = np.abs(noisy.mean(0) - still[0]) / (noisy.std(0) / ROWS**0.5 + 1e-12)
        assert noisy.std(0).max() > 0.01
        assert errors.max() < 6


def test_no_rate_and_no_scale_are_the_evaluation(taps: Forward) -> None:
    weights = draw_weights(noisy_config(0.3))
    still = taps(noisy_config(0.3), weights, None)
    for same in (taps(noisy_config(0.3), weights, 0.0), taps(noisy_config(0.0), weights, 1.0)):
        for name, want in still.items():
            np.testing.assert_array_equal(same[name], want)


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_every_layer_drops_its_branch_with_its_own_rate(taps: Forward, schedule: str) -> None:
    """Without attention branches, a layer that returns its input has dropped its feed-forward branch."""
    stack = {"drop_path": 0.4, "drop_path_schedule": schedule}
    config = decoder(block(), block(), num_layers=5, stack=stack, dtype=DTYPE)
    activations = taps(config, draw_weights(config, "o_proj"), 0.5)
    before = activations["embed"]
    for layer, rate in enumerate(config.stack.drop_path_rates()):
        after = activations[f"stack.layers.{layer}.output"]
        share = np.mean((after == before).all((1, 2)))
        assert abs(share - 0.5 * rate) < 5 * (0.25 / ROWS) ** 0.5 * (rate > 0) or share == rate == 0
        before = after
