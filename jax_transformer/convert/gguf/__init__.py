"""GGUF files, which llama.cpp reads: opened as the Hugging Face checkpoints that they were made of. Framework-free."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jax_transformer.config import Model
from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.gguf.architectures import architecture_of
from jax_transformer.convert.gguf.file import GgufFile, is_gguf, read_gguf
from jax_transformer.convert.gguf.metadata import config_values
from jax_transformer.convert.gguf.names import FREQUENCIES
from jax_transformer.convert.gguf.tokenizer import tokenizer_files
from jax_transformer.convert.gguf.weights import GgufWeights, read_rows
from jax_transformer.convert.gguf.writer import write_gguf
from jax_transformer.convert.hf import HubView, Shapes, family_named, open_tensors

__all__ = ["companions", "is_gguf", "open_gguf", "read_config", "text_folder", "write_gguf"]


def open_gguf(
    path: str | Path, shapes_of: Callable[[Model], Shapes], compute: str | None = None, dequantize: bool = False
) -> tuple[Model, HubView]:
    """Config and hub tensors of a GGUF file; ``shapes_of`` gives the hub tensors of a config.

    The model computes in the dtype ``compute``; None: in that of the weights. Raises ConfigError for a config that we cannot
    express, WeightsError for a file that is damaged, does not fit its config, or is quantised where ``dequantize`` is off.
    """
    file = read_gguf(path)
    config, values = _configs(file)
    architecture = architecture_of(file)
    weights = GgufWeights(file, architecture.layout(values), dequantize)
    return open_tensors((config, values), family_named(architecture.family), weights, shapes_of, compute)


def read_config(path: str | Path) -> Model:
    """The model that a GGUF file says it holds, in float32; its tensors are not read. Raises as ``open_gguf`` does."""
    return _configs(read_gguf(path))[0]


def companions(path: str | Path) -> dict[str, bytes]:
    """The tokenizer and chat template of a GGUF file, as the files that Hugging Face keeps them in.

    Raises WeightsError for a tokenizer that is damaged or of an unknown kind.
    """
    return tokenizer_files(read_gguf(path))


@contextmanager
def text_folder(path: Path) -> Iterator[Path]:
    """The folder with the tokenizer of a checkpoint: itself, or for a GGUF file one for as long as it is asked for.

    Raises WeightsError for a GGUF file without a tokenizer, and as ``companions`` does.
    """
    if not is_gguf(path):
        yield path
        return
    files = companions(path)
    if "tokenizer.json" not in files:
        raise WeightsError(
            f"{path}: has no tokenizer, neither tokenizer.ggml.tokens nor tokenizer.huggingface.json; convert it to a folder "
            "and put the tokenizer.json of the model that it was made of into that"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        yield Path(folder)


def _configs(file: GgufFile) -> tuple[Model, dict[str, Any]]:
    architecture = architecture_of(file)
    values = config_values(file, architecture, _factors(file))
    return family_named(architecture.family).read_config(values, str(file.path)), values


def _factors(file: GgufFile) -> list[float] | None:
    tensor = file.tensors.get(FREQUENCIES)
    if tensor is None:
        return None
    if len(tensor.shape) != 1 or tensor.shape[0] > 4096:
        raise WeightsError(f"{file.path}: {FREQUENCIES} is {list(tensor.shape)}; wanted one number for each pair of a head")
    return [float(str(value)) for value in read_rows(file, FREQUENCIES)]
