"""Exchange folders, Hugging Face folders and GGUF files <-> JAX models, and runs, which can become each of them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jax_transformer.config import Dtype, Model, Run
from jax_transformer.config.errors import WeightsError
from jax_transformer.config.load import load_config
from jax_transformer.convert import gguf, hf, hub
from jax_transformer.convert.layout import Index, check_names, entries_by_param, hub_entries, read_param
from jax_transformer.convert.safetensors_file import Positions
from jax_transformer.convert.source import Format, Source, cast_source, source_of_params, write_source
from jax_transformer.models import abstract_model
from jax_transformer.models.decoder import Decoder
from jax_transformer.models.encoder import Encoder
from jax_transformer.models.encoder_decoder import EncoderDecoder
from jax_transformer.nn.params import ParamSpec, get_params, param_specs, with_params
from jax_transformer.train.stored_arrays import open_params

MAX_SHARD_BYTES = 5 * 10**9


def save_pretrained(
    model: Decoder | Encoder | EncoderDecoder,
    path: str | Path,
    tokenizer: hub.TokenizerSource | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    overwrite: bool = False,
    format: Format = "exchange",
    family: str | None = None,
) -> None:
    """Writes ``model`` as a folder or, in the format ``gguf``, a file, with its ``tokenizer`` (a file, or an object).

    ``torch_reference`` opens all formats, transformers the formats ``hf`` and ``gguf``: there the model becomes one of
    ``family``, or of the first family that expresses it exactly. The target appears whole or not at all; memory peaks at one
    layer's tensors. Raises WeightsError where ``path`` exists and ``overwrite`` is off, where the disk is too small, or where
    this process does not hold all of the weights; ConfigError where no family expresses the model.
    """
    params, specs = get_params(model), param_specs(model)
    for name, array in params.items():
        if not array.is_fully_addressable:
            raise WeightsError(f"parameter {name} is spread over several processes; convert a checkpoint in one process")
    hub.check_dtype({path: spec.dtype for path, spec in specs.items()}, model.config)
    source = source_of_params(model.config, params, specs)
    files = hub.tokenizer_files(tokenizer)
    write_source(path, source, files, (format, family), max_shard_bytes=max_shard_bytes, overwrite=overwrite)


def load_pretrained(
    path: str | Path,
    dtype: str | None = None,
    check_finite: bool = True,
    shardings: Mapping[str, jax.sharding.Sharding] | None = None,
    dequantize: bool = False,
    verify: bool | None = None,
) -> Any:
    """The model of an exchange folder, a folder of Hugging Face or a GGUF file, its config as ``.config``.

    ``dtype`` casts the parameters, which otherwise keep the dtype they are stored in. A model of Hugging Face computes in the
    same. ``dequantize`` multiplies quantised tensors of a GGUF file out to float32. With ``shardings`` (by parameter) each
    process reads its own parts of the weights only, each once; where a tied model's file holds the matrix twice, both whole.
    ``verify`` compares the whole files with ``model.sha256`` where that exists; None does unless there are ``shardings``.
    Raises WeightsError for weights that are damaged, do not fit the config, or are not finite; ConfigError for a config that
    is not valid, or float64 without JAX's 64-bit mode.
    """
    config, weights = open_pretrained(Path(path), dtype, dequantize, shardings is None if verify is None else verify)
    if dtype is None:
        hub.check_dtype({name: info.dtype for name, info in weights.items()}, config)
    model = abstract_model(hub.with_param_dtype(config, dtype))
    specs = param_specs(model)
    check_names(specs, weights)

    def read(name: str, chosen: Positions | None) -> np.ndarray:
        array = weights.read_part(name, chosen)
        if check_finite:
            hub.check_finite(name, array, weights.tensors())
        return array if dtype is None else hub.cast(name, array, dtype)

    entries = entries_by_param(specs)
    layouts = dict.fromkeys(specs) if shardings is None else shardings
    values = {
        path: _placed(partial(read_param, read, entries[path], spec), spec.shape, layouts[path]) for path, spec in specs.items()
    }
    return with_params(model, values)


def _placed(
    read: Callable[[Index | None], np.ndarray], shape: tuple[int, ...], sharding: jax.sharding.Sharding | None
) -> jax.Array:
    """A parameter on its devices; a part that several devices of this process hold is read once."""
    if sharding is None:
        return jnp.asarray(read(None))
    parts: dict[str, np.ndarray] = {}

    def part(index: Index | None) -> np.ndarray:
        if str(index) not in parts:
            parts[str(index)] = read(index)
        return parts[str(index)]

    return jax.make_array_from_callback(shape, sharding, part)


def convert(
    src: str | Path,
    dst: str | Path,
    dtype: str | None = None,
    step: int | Literal["latest", "best"] = "best",
    check_finite: bool = True,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    overwrite: bool = False,
    format: Format | None = None,
    family: str | None = None,
    dequantize: bool = False,
) -> None:
    """Writes a run folder (one ``step`` of its checkpoints), or what ``load_pretrained`` opens, as ``dst``.

    Without a ``format`` a name that ends in ``.gguf`` is a GGUF file, and any other a folder of ours. ``dtype`` and
    ``dequantize`` as there, ``format`` and ``family`` as in ``save_pretrained``. Tokenizer files travel along. Raises
    WeightsError, CheckpointError or ConfigError where ``src`` cannot be trusted, or like ``save_pretrained``; ``dst`` is then
    left as it was.
    """
    src = Path(src)
    if (src / "checkpoints").is_dir():
        opened = _open_run(src, step)
    elif (src / "config.json").is_file() or gguf.is_gguf(src):
        opened = _open_weights(src, dtype, dequantize)
    else:
        raise WeightsError(f"{src}: no GGUF file, and has neither checkpoints/ (a run) nor config.json (a folder of weights)")
    files = gguf.companions(src) if gguf.is_gguf(src) else hf.companions(src)
    options = {"max_shard_bytes": max_shard_bytes, "overwrite": overwrite}
    chosen: Format = format or ("gguf" if Path(dst).suffix == ".gguf" else "exchange")
    write_source(dst, cast_source(opened, dtype, check_finite), files, (chosen, family), **options)


def open_pretrained(
    path: Path, dtype: str | None = None, dequantize: bool = False, verify: bool = True
) -> tuple[Model, hub.Weights]:
    """Config and hub tensors of a folder or file; one that is not ours computes in ``dtype`` where that is given.

    No tensor is read, but for ``verify``, which is that of ``hub.open_weights``. Raises WeightsError and ConfigError as
    ``load_pretrained`` does.
    """
    if gguf.is_gguf(path):
        return gguf.open_gguf(path, _shapes, dtype, dequantize)
    if dequantize:
        raise WeightsError(f"{path}: no GGUF file; dequantize is for those")
    if hf.is_hf(path):
        return hf.open_hf(path, _shapes, dtype, verify)
    return hub.read_config(path), hub.open_weights(path, verify)


def _open_run(folder: Path, step: int | Literal["latest", "best"]) -> Source:
    config = load_config(folder / "config.yaml")
    if not isinstance(config, Run):
        raise WeightsError(f"{folder / 'config.yaml'}: is the config of a model; wanted that of a run")
    specs = structure(config.model)
    params = open_params(folder / "checkpoints", step)
    hub.check_dtype({path: array.dtype for path, array in params.items()}, config.model)
    return source_of_params(config.model, params, specs)


def _open_weights(path: Path, dtype: str | None, dequantize: bool) -> Source:
    config, weights = open_pretrained(path, dtype, dequantize)
    if dtype is None:
        hub.check_dtype({name: info.dtype for name, info in weights.items()}, config)
    if isinstance(weights, hub.WeightsReader):
        check_names(structure(config), weights)
    specs = {name: (info.shape, info.dtype) for name, info in weights.items()}
    return Source(config, specs, weights.tensors(), weights.read)


def _shapes(config: Model) -> dict[str, tuple[int, ...]]:
    return {entry.hub_name: entry.shape for entry in hub_entries(structure(config))}


def structure(config: Model) -> dict[str, ParamSpec]:
    """The parameters of a config's model, by path, in float32."""
    # float32 throughout: shapes do not depend on dtypes, and float64 would need JAX's 64-bit mode for nothing.
    return param_specs(abstract_model(config.model_copy(update={"dtype": Dtype()})))
