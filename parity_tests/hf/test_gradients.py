"""Gradients travel like weights: those of our model, under the names of Hugging Face, are those of transformers."""

from pathlib import Path

import numpy as np
import pytest

from jax_transformer.convert.hf import as_ours, as_theirs
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import inputs, our_inputs, save, torch
from parity_tests.tolerances import FLOAT32_MODEL_GRADIENT, LOW_FLOOR, relative_error
from torch_reference.checkpoint import load_pretrained, to_array


@pytest.mark.parametrize(
    "case", ["llama", "phi3", "gpt2", "bloom", "falcon", "gemma2", "bart", "llama4, every other", "t5gemma, two widths"]
)
def test_gradients_under_their_names_are_theirs(case: str, tmp_path: Path):
    theirs, family = save(case, tmp_path / "hf"), CASES[case][0]
    given = {name: torch.from_numpy(ids) for name, ids in inputs(case).items()}
    two = theirs.config.is_encoder_decoder
    own = {"input_ids": given["source"], "decoder_input_ids": given["tokens"]} if two else {"input_ids": given["tokens"]}
    theirs(**own).logits.square().mean().backward()
    ours = load_pretrained(tmp_path / "hf")
    ours(*map(torch.from_numpy, our_inputs(ours, case)))[0].square().mean().backward()
    hub = {name: to_array(parameter.grad) for name, parameter in ours.named_parameters()}
    moved = as_theirs(ours.config, hub, family)
    wanted = {name: to_array(p.grad) for name, p in theirs.named_parameters() if p.grad is not None}
    assert wanted.keys() <= moved.keys()
    largest = max(float(np.abs(gradient).max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        scale = max(float(np.abs(gradient).max()), LOW_FLOOR * largest)
        assert relative_error(moved[name], gradient, scale) <= FLOAT32_MODEL_GRADIENT, name
    back = as_ours(ours.config, moved, {name: gradient.shape for name, gradient in hub.items()}, family)
    assert back.keys() == hub.keys()
    assert all(back[name].tobytes() == gradient.tobytes() for name, gradient in hub.items())
