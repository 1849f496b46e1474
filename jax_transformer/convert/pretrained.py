"""Exchange folders <-> JAX models, and everything that can become an exchange folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jax_transformer.config import Dtype, Model, Run
from jax_transformer.config.errors import WeightsError
from jax_transformer.config.load import load_config
from jax_transformer.convert import hub
from jax_transformer.convert.layout import Index, check_names, entries_by_param, hub_entries, read_param, to_hub
from jax_transformer.models import abstract_model
from jax_transformer.models.decoder import Decoder
from jax_transformer.models.encoder import Encoder
from jax_transformer.models.encoder_decoder import EncoderDecoder
from jax_transformer.nn.params import ParamSpec, get_params, param_specs, with_params
from jax_transformer.train.checkpoint import restore_params

MAX_SHARD_BYTES = 5 * 10**9


def save_pretrained(
    model: Decoder | Encoder | EncoderDecoder,
    path: str | Path,
    tokenizer: hub.TokenizerSource | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    overwrite: bool = False,
) -> None:
    """Writes ``model`` as an exchange folder, with its ``tokenizer`` (a file, or an object); ``torch_reference`` opens it.

    The folder appears whole or not at all; memory peaks at one layer's tensor. Raises WeightsError where ``path`` exists and
    ``overwrite`` is off, where the disk is too small, or where this process does not hold all of the weights.
    """
    params, specs = get_params(model), param_specs(model)
    for name, array in params.items():
        if not array.is_fully_addressable:
            raise WeightsError(f"parameter {name} is spread over several processes; convert a checkpoint in one process")
    hub.check_dtype({path: spec.dtype for path, spec in specs.items()}, model.config)
    files = hub.exchange_files(model.config, tokenizer)
    announced = {entry.hub_name: (entry.shape, entry.dtype) for entry in hub_entries(specs)}
    hub.write_weights(path, announced, to_hub(params, specs), files, max_shard_bytes, overwrite)


def load_pretrained(
    path: str | Path,
    dtype: str | None = None,
    check_finite: bool = True,
    shardings: Mapping[str, jax.sharding.Sharding] | None = None,
) -> Any:
    """The model of an exchange folder, its config as ``.config``.

    ``dtype`` casts the parameters, which otherwise keep the dtype they are stored in. With ``shardings`` (by parameter) each
    process reads its own parts of the weights only. Raises WeightsError for weights that are damaged, do not fit the config,
    or are not finite; ConfigError for a config that is not valid, or float64 without JAX's 64-bit mode.
    """
    config = hub.read_config(path)
    weights = hub.open_weights(path)
    if dtype is None:
        hub.check_dtype({name: info.dtype for name, info in weights.items()}, config)
    model = abstract_model(hub.with_param_dtype(config, dtype))
    specs = param_specs(model)
    check_names(specs, weights)

    def read(name: str, rows: slice) -> np.ndarray:
        array = weights.read(name, rows)
        if check_finite:
            hub.check_finite(name, array)
        return hub.cast(name, array, model.config.dtype.param)

    entries = entries_by_param(specs)

    def place(path: str, spec: ParamSpec) -> jax.Array:
        def part(index: Index | None) -> np.ndarray:
            return read_param(read, entries[path], spec, index)

        if shardings is None:
            return jnp.asarray(part(None))
        return jax.make_array_from_callback(spec.shape, shardings[path], part)

    return with_params(model, {path: place(path, spec) for path, spec in specs.items()})


def convert(
    src: str | Path,
    dst: str | Path,
    dtype: str | None = None,
    step: int | Literal["latest", "best"] = "best",
    check_finite: bool = True,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    overwrite: bool = False,
) -> None:
    """Writes a run folder (one ``step`` of its checkpoints) or an exchange folder as the exchange folder ``dst``.

    ``dtype`` casts the weights. Raises WeightsError, CheckpointError or ConfigError where ``src`` cannot be trusted, or like
    ``save_pretrained``; ``dst`` is then left as it was.
    """
    src = Path(src)
    if (src / "checkpoints").is_dir():
        source = _open_run(src, step)
    elif (src / "config.json").is_file():
        source = _open_exchange(src, any_dtype=dtype is not None)
    else:
        raise WeightsError(f"{src}: has neither checkpoints/ (a run folder) nor config.json (an exchange folder)")
    config = hub.with_param_dtype(source.config, dtype)

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for name, array in source.tensors:
            if check_finite:
                hub.check_finite(name, array)
            yield name, hub.cast(name, array, config.dtype.param)

    tokenizer = src / "tokenizer.json"
    files = hub.exchange_files(config, tokenizer if tokenizer.is_file() else None)
    announced = {name: (shape, hub.numpy_dtype(config.dtype.param)) for name, shape in source.shapes.items()}
    hub.write_weights(dst, announced, tensors(), files, max_shard_bytes, overwrite)


@dataclass(frozen=True)
class _Source:
    config: Model
    shapes: dict[str, tuple[int, ...]]
    tensors: Iterator[tuple[str, np.ndarray]]


def _open_run(folder: Path, step: int | Literal["latest", "best"]) -> _Source:
    config = load_config(folder / "config.yaml")
    if not isinstance(config, Run):
        raise WeightsError(f"{folder / 'config.yaml'}: is the config of a model; wanted that of a run")
    specs = _structure(config.model)
    params, _ = restore_params(folder / "checkpoints", step)
    hub.check_dtype({path: array.dtype for path, array in params.items()}, config.model)
    shapes = {entry.hub_name: entry.shape for entry in hub_entries(specs)}
    return _Source(config.model, shapes, to_hub(params, specs))


def _open_exchange(folder: Path, any_dtype: bool) -> _Source:
    config = hub.read_config(folder)
    weights = hub.open_weights(folder)
    if not any_dtype:
        hub.check_dtype({name: info.dtype for name, info in weights.items()}, config)
    check_names(_structure(config), weights)
    shapes = {name: info.shape for name, info in weights.items()}
    return _Source(config, shapes, ((name, weights.read(name)) for name in weights))


def _structure(config: Model) -> dict[str, ParamSpec]:
    # float32 throughout: shapes do not depend on dtypes, and float64 would need JAX's 64-bit mode for nothing.
    return param_specs(abstract_model(config.model_copy(update={"dtype": Dtype()})))
