"""The hub: a flat map from ``torch_reference`` parameter names to arrays; on disk, an exchange folder. Framework-free.

An exchange folder holds ``config.json``, where there is one ``tokenizer.json``, and the weights: ``model.safetensors``, or
numbered shards and ``model.safetensors.index.json``. ``model.sha256`` (the format of ``sha256sum``) guards them, because
safetensors has no checksum: a flipped bit would load silently.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import ml_dtypes
import numpy as np

from jax_transformer.config import Model, Run
from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.config.load import load_config, to_json
from jax_transformer.convert.safetensors_file import TensorInfo
from jax_transformer.convert.weights_reader import FileWeights, Weights, WeightsReader, open_weights
from jax_transformer.convert.weights_writer import write_weights

__all__ = [
    "FileWeights",
    "HasJson",
    "TensorInfo",
    "TokenizerSource",
    "Weights",
    "WeightsReader",
    "cast",
    "check_dtype",
    "check_finite",
    "check_shapes",
    "exchange_files",
    "numpy_dtype",
    "open_weights",
    "read_config",
    "tokenizer_files",
    "with_param_dtype",
    "write_weights",
]

_FLOATS = {name: np.dtype(name) for name in ("float16", "float32", "float64")} | {"bfloat16": np.dtype(ml_dtypes.bfloat16)}

_CHOOSING = (".choice_bias", ".router.weight", ".router.kernel", ".router.bias")
_DECAYS = (".A_log", ".dt_bias")


@runtime_checkable
class HasJson(Protocol):
    """A tokenizer that can write itself as a ``tokenizer.json``."""

    def to_json(self) -> str: ...


TokenizerSource = str | Path | HasJson
"""A ``tokenizer.json``, or an object that can write one."""


def read_config(folder: str | Path) -> Model:
    """The model config of an exchange folder.

    Raises WeightsError where the folder has none, ConfigError where it is not valid.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise WeightsError(f"{folder}: has no config.json; wanted an exchange folder, which save_pretrained and convert write")
    try:
        config = load_config(path)
    except ConfigError as error:
        if b'"model_type"' in path.read_bytes():
            raise WeightsError(f"{path}: is the config of a Hugging Face model, not one of ours") from error
        raise
    if isinstance(config, Run):
        raise WeightsError(f"{path}: is the config of a run; wanted that of a model")
    return config


def exchange_files(config: Model, tokenizer: TokenizerSource | None) -> dict[str, bytes]:
    """The files beside the weights: config and tokenizer. Raises WeightsError where the file of the tokenizer is missing."""
    return {"config.json": to_json(config).encode() + b"\n"} | tokenizer_files(tokenizer)


def tokenizer_files(tokenizer: TokenizerSource | None) -> dict[str, bytes]:
    """The file of the tokenizer, if there is one. Raises WeightsError where it is missing."""
    if isinstance(tokenizer, HasJson):
        return {"tokenizer.json": tokenizer.to_json().encode()}
    if tokenizer is None:
        return {}
    if not Path(tokenizer).is_file():
        raise WeightsError(f"{tokenizer}: no such tokenizer file; wanted the path of a tokenizer.json")
    return {"tokenizer.json": Path(tokenizer).read_bytes()}


def check_dtype(dtypes: Mapping[str, np.dtype[Any]], config: Model) -> None:
    """Raises WeightsError unless the tensors (name to dtype) all have the dtype that ``config`` says parameters have.

    What chooses experts may be float32 all the same, and how fast states decay: published weights in 16 bits have them so;
    rounding would send tokens to other experts, and forget at another rate.
    """
    found: dict[str, str] = {}
    for name, dtype in dtypes.items():
        if not (dtype == np.float32 and name.endswith(_CHOOSING + _DECAYS)):
            found.setdefault(str(dtype), name)
    if found.keys() != {config.dtype.param}:
        raise WeightsError(
            f"the weights are {found} (dtype: first tensor of it), but their config says dtype.param={config.dtype.param} "
            "for all; give a dtype explicitly to cast them"
        )


def with_param_dtype(config: Model, dtype: str | None) -> Model:
    """``config`` with parameters of ``dtype``; None changes nothing. Raises WeightsError for a dtype that is none."""
    if dtype is None:
        return config
    numpy_dtype(dtype)
    return config.model_copy(update={"dtype": config.dtype.model_copy(update={"param": dtype})})


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype that a config calls ``name``. Raises WeightsError where there is none."""
    if name not in _FLOATS:
        raise WeightsError(f"dtype {name!r} is unknown; wanted one of {sorted(_FLOATS)}")
    return _FLOATS[name]


def check_shapes(
    wanted: Mapping[str, tuple[int, ...]], available: Mapping[str, Any], duplicates: Mapping[str, list[str]] | None = None
) -> None:
    """``available`` (name to anything with a ``shape``) must be exactly the tensors of ``wanted``.

    ``duplicates`` are those in several files, with the names of the files; None: as ``available`` says. Raises WeightsError
    that lists every missing, unexpected, misshapen and repeated tensor at once.
    """
    if duplicates is None:
        duplicates = available.duplicates if isinstance(available, Weights) else {}
    problems = [f"missing: {name} {list(shape)}" for name, shape in wanted.items() if name not in available]
    problems += [f"unexpected: {name} {list(available[name].shape)}" for name in available if name not in wanted]
    problems += [
        f"shape: {name} is {list(available[name].shape)}, wanted {list(shape)}"
        for name, shape in wanted.items()
        if name in available and tuple(available[name].shape) != shape
    ]
    problems += [f"in two shards: {name} is in {' and '.join(files)}; remove one" for name, files in duplicates.items()]
    if problems:
        raise WeightsError("the weights do not fit the model's config:\n  " + "\n  ".join(problems))


def check_finite(name: str, array: np.ndarray, others: Iterable[tuple[str, np.ndarray]] = ()) -> None:
    """Raises WeightsError that names the tensor and counts its NaN and infinite values.

    ``others`` with their names are read only where there are such values, so that all are named at once.
    """
    if first := _not_finite(name, array):
        found = [first, *filter(None, (_not_finite(other, values) for other, values in others if other != name))]
        raise WeightsError(
            "the weights are damaged or diverged in training (check_finite=False loads them all the same):\n  "
            + "\n  ".join(found)
        )


def _not_finite(name: str, array: np.ndarray) -> str | None:
    if array.dtype not in _FLOATS.values() or not (lost := array.size - int(_finite(array).sum())):
        return None
    return f"tensor {name!r}: {lost} of {array.size} values are not finite"


def cast(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    """``array`` rounded to the nearest of ``dtype``; the same array where that is its dtype.

    Raises WeightsError where a finite value becomes infinite, or ``array`` is not floating-point.
    """
    if array.dtype not in _FLOATS.values():
        raise WeightsError(f"tensor {name!r}: dtype {array.dtype} is not floating-point; it cannot become {dtype}")
    if array.dtype == numpy_dtype(dtype):
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(numpy_dtype(dtype))
    lost = _finite(array) & ~_finite(result)
    if lost.any():
        raise WeightsError(
            f"tensor {name!r}: {int(lost.sum())} of {array.size} values overflow {dtype}, the largest is "
            f"{float(np.abs(array[lost]).max()):.4g}; keep {array.dtype} or choose a dtype with a larger range"
        )
    return result


def _finite(array: np.ndarray) -> np.ndarray:
    # A signalling NaN in bfloat16 raises the floating-point flag that numpy warns of.
    with np.errstate(invalid="ignore"):
        return np.isfinite(array)
