"""Hub tensors on their way to a folder or a file, whatever they come from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jax_transformer.config import Model
from jax_transformer.convert import gguf, hf, hub
from jax_transformer.convert.layout import Entry, hub_entries, to_hub
from jax_transformer.nn.params import ParamSpec

Format = Literal["exchange", "hf", "gguf"]
"""Our own folders, those of Hugging Face, or files of llama.cpp."""


@dataclass(frozen=True)
class Source:
    """Hub tensors: all in the order that costs least, or one by its name."""

    config: Model
    specs: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
    """Shape and dtype by name."""
    tensors: Iterator[tuple[str, np.ndarray]]
    read: Callable[[str], np.ndarray]


def cast_source(source: Source, dtype: str | None, check_finite: bool) -> Source:
    """The tensors in ``dtype`` (None: each in its own), checked."""

    def cast(name: str, array: np.ndarray) -> np.ndarray:
        if check_finite:
            hub.check_finite(name, array, ((other, source.read(other)) for other in source.specs))
        return array if dtype is None else hub.cast(name, array, dtype)

    def checked(tensor: tuple[str, np.ndarray]) -> tuple[str, np.ndarray]:
        return tensor[0], cast(*tensor)

    config = hub.with_param_dtype(source.config, dtype)
    specs = {
        name: (shape, stored if dtype is None else hub.numpy_dtype(dtype)) for name, (shape, stored) in source.specs.items()
    }
    # map, because a generator would hold each tensor until the next one is there.
    tensors = map(checked, source.tensors)
    return Source(config, specs, tensors, lambda name: cast(name, source.read(name)))


def write_source(
    path: str | Path, source: Source, files: Mapping[str, bytes], format: tuple[Format, str | None], **options: Any
) -> None:
    """Writes ``source`` in a format and, where it has families, as one of them; ``options`` go to ``write_weights``."""
    if format[0] == "exchange":
        files = {**files, **hub.exchange_files(source.config, None)}
        hub.write_weights(path, source.specs, source.tensors, files, **options)
    elif format[0] == "gguf":
        own = hf.HubSource(source.specs, source.read)
        gguf.write_gguf(path, source.config, own, files, format[1], options.get("overwrite", False))
    else:
        chosen = hf.choose(source.config, format[1])
        hf.write_folder(path, source.config, chosen, hf.HubSource(source.specs, source.read), files, **options)


def source_of_params(config: Model, params: Mapping[str, Any], specs: Mapping[str, ParamSpec]) -> Source:
    """The hub tensors of ``params``, or of gradients or moments by the same paths."""
    entries = {entry.hub_name: entry for entry in hub_entries(specs)}
    stored = {name: (entry.shape, np.dtype(params[entry.jax_path].dtype)) for name, entry in entries.items()}

    def read(name: str) -> np.ndarray:
        return _one(entries[name], params, specs)

    return Source(config, stored, to_hub(params, specs), read)


def _one(entry: Entry, params: Mapping[str, Any], specs: Mapping[str, ParamSpec]) -> np.ndarray:
    """One hub tensor, by the rules of a parameter outside a stack."""
    array, spec = params[entry.jax_path], specs[entry.jax_path]
    path = f"own.{entry.jax_path.rpartition('.')[2]}"
    if entry.index is not None:
        array, spec = array[entry.index], replace(spec, shape=spec.shape[1:])
    return next(to_hub({path: array}, {path: spec}))[1]
