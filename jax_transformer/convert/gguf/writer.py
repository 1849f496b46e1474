"""A model as one GGUF file, one row of the family's table in memory at a time."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jax_transformer.config import Model
from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.convert.atomic import taking_place
from jax_transformer.convert.gguf.architectures import ARCHITECTURES, Architecture
from jax_transformer.convert.gguf.file import is_gguf, parse_header
from jax_transformer.convert.gguf.header import make_header
from jax_transformer.convert.gguf.metadata import config_values, metadata_of
from jax_transformer.convert.gguf.names import Layout
from jax_transformer.convert.gguf.tokenizer_writer import tokenizer_metadata
from jax_transformer.convert.hf import HubSource, family_named
from jax_transformer.convert.hf.flat import differences, flatten
from jax_transformer.convert.rows import Bound

_FILE_TYPES = {"float32": 0, "float16": 1, "bfloat16": 32}

Specs = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


def write_gguf(
    path: str | Path,
    config: Model,
    source: HubSource,
    files: Mapping[str, bytes],
    family: str | None = None,
    overwrite: bool = False,
) -> None:
    """Writes hub tensors as the file ``path``, with the tokenizer and the chat template among ``files``.

    Vectors and routers are float32, as in every file of llama.cpp: 16 bits fit in them exactly. The file appears whole or not
    at all. Raises ConfigError where no architecture (of ``family``, if given) expresses the model, WeightsError where the file
    exists and ``overwrite`` is off, for a dtype that is not written, and where the disk is too small.
    """
    path = Path(path).resolve()
    chosen, rows, values = _choose(path, config, source, family)
    layout = chosen.layout(values)
    specs = _specs(layout, rows, source)
    general = {"general.file_type": _FILE_TYPES.get(config.dtype.param, 0)}
    metadata = metadata_of(chosen, values) | general | tokenizer_metadata(files, config.vocab_size)
    header = make_header(metadata, specs)
    with (
        taking_place(path, header.size, lambda: _check_target(path, overwrite)) as temporary,
        temporary.open("wb") as stream,
    ):
        stream.write(header.content)
        stream.truncate(header.size)  # what lies between two tensors is zero
        for name, part, array in _tensors(layout, rows, source):
            content = np.ascontiguousarray(array.astype(specs[name][1], copy=False))
            stream.seek(header.offsets[name] + (0 if part is None else part * content.nbytes))
            stream.write(content.reshape(-1).view(np.uint8).data)
            del array, content  # before the next one is made


def _tensors(layout: Layout, rows: list[Bound], source: HubSource) -> Iterator[tuple[str, int | None, np.ndarray]]:
    """Every tensor of the file, or part of one, by its name, its place in it and its content."""
    for row in rows:
        arrays = row.from_hub(source.read)
        for their in row.theirs:
            name, part = layout.own(their)
            yield name, part, layout.from_theirs(name, arrays.pop(0))


def _specs(layout: Layout, rows: list[Bound], source: HubSource) -> Specs:
    """Name, shape and dtype of the tensors of the file."""
    specs: Specs = {}
    for row in rows:
        for their, shape in zip(row.theirs, row.shapes, strict=True):
            name, part = layout.own(their)
            dtype = np.dtype(np.float32) if layout.is_wide(name, len(shape)) else source.specs[row.ours[0]][1]
            specs[name] = (shape if part is None else (part + 1, *shape), dtype)
    return specs


def _choose(
    path: Path, config: Model, source: HubSource, family: str | None
) -> tuple[Architecture, list[Bound], dict[str, Any]]:
    """The first architecture that expresses the model, its rows, and its config of Hugging Face."""
    problems: list[str] = []
    for architecture in ARCHITECTURES:
        if family in (None, architecture.family):
            try:
                return architecture, *_expressed(path, config, source, architecture)
            except ConfigError as error:
                problems.append(str(error))
    if not problems:
        raise ConfigError(f"{path}: family {family!r} is not written; wanted one of {[one.family for one in ARCHITECTURES]}")
    closest = min(problems, key=lambda problem: ("\n" not in problem, problem.count("\n")))
    raise ConfigError(f"{path}: no architecture of GGUF that we write has this model; the closest: {closest}")


def _expressed(path: Path, config: Model, source: HubSource, architecture: Architecture) -> tuple[list[Bound], dict[str, Any]]:
    """Rows and config of a family. Raises ConfigError where a file with it would be read as another model."""
    family = family_named(architecture.family)
    values = family.write_config(config)
    rows = family.bind(config, {name: shape for name, (shape, _) in source.specs.items()})
    specs = {
        name: (shape, np.dtype(np.float32)) for name, (shape, _) in _specs(architecture.layout(values), rows, source).items()
    }
    header = make_header(metadata_of(architecture, values), specs)
    file = parse_header(path, io.BytesIO(header.content), header.size)
    again = family.read_config(config_values(file, architecture, None), str(path))
    if wrong := differences(flatten(config), flatten(again), ("the model", "its file")):
        raise ConfigError(f"GGUF's {architecture.name} cannot express this model:\n  " + "\n  ".join(wrong))
    return rows, values


def _check_target(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise WeightsError(f"{path}: exists already; choose another place or pass overwrite=True")
    if path.exists() and not is_gguf(path):
        raise WeightsError(f"{path}: will not be replaced, it is no GGUF file")
