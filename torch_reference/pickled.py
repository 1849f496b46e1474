"""Pickled weights (``pytorch_model.bin``), opened by torch's ``weights_only`` reader, which runs no code of theirs."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.hub import FileWeights, TensorInfo
from torch_reference.checkpoint import numpy_dtype, to_array

_SAFE = "convert them to safetensors where you trust them"


class PickledReader(FileWeights[Tensor]):
    """The tensors of pickles. Files as torch writes them today are mapped: values are read when they are asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__({path: _load(path) for path in files})

    def __getitem__(self, name: str) -> TensorInfo:
        tensor = self._tensors[name][1]
        return TensorInfo(tuple(tensor.shape), numpy_dtype(tensor), 0)  # torch knows where; nobody else reads there

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """A copy of the tensor, or of consecutive ``rows`` of its first axis."""
        _, tensor = self.located(name)
        return np.array(to_array(tensor if rows == slice(None) else tensor[rows]), order="C")


def _load(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name. Raises WeightsError for one that holds, or would run, anything else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch raises many, pickle's own among them
        reason = str(error).partition("\n")[0][:300]
        raise WeightsError(
            f"{path}: a pickle that torch does not open with weights_only=True, so it may run code, or is damaged: {_SAFE}. "
            f"torch says: {reason}"
        ) from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path}: holds a {type(state).__name__}, wanted tensors by name; {_SAFE}")
    if wrong := [f"{name!a}: {problem}" for name, value in state.items() if (problem := _problem(name, value))]:
        raise WeightsError(f"{path}: wanted plain tensors by name and nothing else; {_SAFE}. It holds\n  " + "\n  ".join(wrong))
    return dict(state)


def _problem(name: Any, value: Any) -> str | None:
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 1024:
        return "cannot be a tensor name"
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        return f"a tensor with layout {value.layout} on {value.device}"
    try:
        numpy_dtype(value)
    except TypeError:
        return f"a tensor of {value.dtype}"
    return None
