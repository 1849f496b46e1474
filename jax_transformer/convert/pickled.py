"""Weights of a Hugging Face folder: safetensors, or the pickles of older checkpoints, which torch opens.

A pickle is a program. torch's ``weights_only`` reader runs none of it but what puts tensors together, and refuses the rest;
where torch is not installed, and for our own folders, pickles are refused.
"""

from importlib import import_module
from pathlib import Path

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.weights_reader import SAFETENSORS, Layout, Weights, check_index, find_files, open_weights

PICKLED = Layout("pytorch_model.bin", "pytorch_model.bin.index.json", ".bin")
"""How transformers called pickled weights."""

_READER = "torch_reference.pickled"
"""Module of the reader; imported when it is asked for."""


def open_stored(folder: str | Path, verify: bool = True) -> Weights:
    """The weights of a folder, pickled ones only where there are no others; ``verify`` as in ``open_weights``. Reads no values.

    Raises WeightsError as ``open_weights`` does, and for pickles that torch does not read safely, or without torch.
    """
    folder = Path(folder)
    if SAFETENSORS.is_in(folder) or not PICKLED.is_in(folder):
        return open_weights(folder, verify)
    files, weight_map = find_files(folder, PICKLED)
    try:
        reader = import_module(_READER).PickledReader(files)
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"{folder}: {[file.name for file in files]} are pickles, which torch reads safely, but torch is not installed: "
            "install it (the extra 'torch'), or convert them to safetensors where you trust them"
        ) from error
    check_index(folder / PICKLED.index, weight_map, reader)
    return reader
