"""Training folders <-> a PyTorch model and its AdamW; see ``jax_transformer.train.exchange`` for the JAX side.

The model is one of ours, under hub names, or one of transformers', under Hugging Face's: whatever the folder was written in.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert import hub
from jax_transformer.convert.training_folder import FIRST, SECOND, WEIGHTS, Progress, read_progress, write_training
from torch_reference.checkpoint import numpy_dtype, state_to_hub, to_tensor


def load_training(path: str | Path, model: nn.Module, optimizer: torch.optim.AdamW) -> Progress:
    """Puts the weights and moments of a training folder into ``model`` and ``optimizer``, bit by bit.

    Hyperparameters stay those of ``optimizer``. Raises WeightsError that lists every tensor that is missing, unexpected, or has
    another shape or dtype.
    """
    folder = Path(path)
    progress = read_progress(folder)
    weights = _read(folder / WEIGHTS, model)
    state = adamw_state(folder, model, optimizer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    optimizer.load_state_dict(state)
    return progress


def adamw_state(path: str | Path, model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, Any]:
    """The moments of a training folder as the ``state_dict`` of ``optimizer``, which holds parameters of ``model``."""
    folder = Path(path)
    updates = float(read_progress(folder).updates)
    first, second = _read(folder / FIRST, model), _read(folder / SECOND, model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        number: {"step": torch.tensor(updates), "exp_avg": first[name], "exp_avg_sq": second[name]}
        for number, name in enumerate(order)
    }
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


def save_training(path: str | Path, model: Any, optimizer: torch.optim.AdamW, step: int) -> None:
    """Writes a training folder: the weights of ``model``, the moments of ``optimizer``, and ``step``, the steps of the run.

    A parameter without a gradient so far has moments of zero. Raises WeightsError where ``path`` exists, or where parameters
    have not all had the same number of updates.
    """
    parameters = dict(model.named_parameters())
    moments = {name: optimizer.state.get(parameter, {}) for name, parameter in parameters.items()}
    updates = {int(state["step"]) for state in moments.values() if state}
    if len(updates) > 1:
        raise WeightsError(f"parameters have had {sorted(updates)} updates, some more than others; a run has one count")

    def part_of(part: str) -> Mapping[str, Tensor]:
        if part == WEIGHTS:
            return parameters
        return {name: moments[name].get(part, torch.zeros_like(value)) for name, value in parameters.items()}

    def write(part: str, folder: Path) -> None:
        tensors = dict(part_of(part))
        specs = {name: (tuple(tensor.shape), numpy_dtype(tensor)) for name, tensor in tensors.items()}
        hub.write_weights(folder, specs, state_to_hub(tensors), _files(model))

    write_training(Path(path), write, Progress(step, max(updates, default=0)))


def _files(model: Any) -> dict[str, bytes]:
    """The config beside the tensors, ours or that of transformers."""
    if hasattr(model.config, "to_json_string"):
        return {"config.json": model.config.to_json_string().encode()}
    return hub.exchange_files(model.config, None)


def _read(folder: Path, model: nn.Module) -> dict[str, Tensor]:
    reader = hub.open_weights(folder)
    parameters = dict(model.named_parameters())
    hub.check_shapes({name: tuple(parameter.shape) for name, parameter in parameters.items()}, reader)
    tensors = {name: to_tensor(reader.read(name)) for name in parameters}
    for name, tensor in tensors.items():
        if tensor.dtype != parameters[name].dtype:
            raise WeightsError(
                f"{folder}: tensor {name!r} is {tensor.dtype}, the model's parameter {parameters[name].dtype}; build the "
                "model in the dtype of the run"
            )
    return tensors
