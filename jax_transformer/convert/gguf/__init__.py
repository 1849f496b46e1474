"""GGUF files, which llama.cpp reads: opened as the Hugging Face checkpoints that they were made of. Framework-free."""

from collections.abc import Callable
from pathlib import Path

from jax_transformer.config import Model
from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.gguf.architectures import FREQUENCIES, architecture_of, config_values
from jax_transformer.convert.gguf.file import GgufFile, is_gguf, read_gguf
from jax_transformer.convert.gguf.tokenizer import tokenizer_files
from jax_transformer.convert.gguf.weights import GgufWeights, read_rows
from jax_transformer.convert.hf import HubView, Shapes, family_named, open_tensors

__all__ = ["companions", "is_gguf", "open_gguf"]


def open_gguf(
    path: str | Path, shapes_of: Callable[[Model], Shapes], compute: str | None = None, dequantize: bool = False
) -> tuple[Model, HubView]:
    """Config and hub tensors of a GGUF file; ``shapes_of`` gives the hub tensors of a config.

    The model computes in the dtype ``compute``; None: in that of the weights. Raises ConfigError for a config that we cannot
    express, WeightsError for a file that is damaged, does not fit its config, or is quantised where ``dequantize`` is off.
    """
    file = read_gguf(path)
    architecture = architecture_of(file)
    values = config_values(file, architecture, _factors(file))
    heads = [values[f"num_{name}_heads"] for name in ("attention", "key_value")]
    weights = GgufWeights(file, dict(zip(architecture.interleaved, heads, strict=False)), dequantize)
    family = family_named(architecture.family)
    config = family.read_config(values, str(file.path), architecture.overrides)
    return open_tensors((config, values), family, weights, shapes_of, compute)


def companions(path: str | Path) -> dict[str, bytes]:
    """The tokenizer and chat template of a GGUF file, as the files that Hugging Face keeps them in.

    Raises WeightsError for a tokenizer that is damaged or of an unknown kind.
    """
    return tokenizer_files(read_gguf(path))


def _factors(file: GgufFile) -> list[float] | None:
    tensor = file.tensors.get(FREQUENCIES)
    if tensor is None:
        return None
    if len(tensor.shape) != 1 or tensor.shape[0] > 4096:
        raise WeightsError(f"{file.path}: {FREQUENCIES} is {list(tensor.shape)}; wanted one number for each pair of a head")
    return [float(str(value)) for value in read_rows(file, FREQUENCIES)]
