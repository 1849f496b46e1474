"""A model as one GGUF file, one row of the family's table in memory at a time."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from jax_transformer.convert.gguf.names import FREQUENCIES, Layout
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
    plan = _choose(path, config, source, family)
    general = {"general.file_type": _FILE_TYPES.get(config.dtype.param, 0)}
    header = make_header(plan.metadata | general | tokenizer_metadata(files, config.vocab_size), plan.specs)
    with (
        taking_place(path, header.size, lambda: _check_target(path, overwrite)) as temporary,
        temporary.open("wb") as stream,
    ):
        stream.write(header.content)
        stream.truncate(header.size)  # what lies between two tensors is zero
        for name, part, array in _tensors(plan, source):
            content = np.ascontiguousarray(array.astype(plan.specs[name][1], copy=False))
            stream.seek(header.offsets[name] + (0 if part is None else part * content.nbytes))
            stream.write(content.reshape(-1).view(np.uint8).data)
            del array, content  # before the next one is made


@dataclass(frozen=True)
class _Plan:
    """A model as a file of one architecture."""

    layout: Layout
    rows: list[Bound]
    metadata: dict[str, Any]
    specs: Specs
    divisors: np.ndarray | None
    """Of the frequencies of the rotation."""


def _tensors(plan: _Plan, source: HubSource) -> Iterator[tuple[str, int | None, np.ndarray]]:
    """Every tensor of the file, or part of one, by its name, its place in it and its content."""
    if plan.divisors is not None:
        yield FREQUENCIES, None, plan.divisors
    for row in plan.rows:
        arrays = row.from_hub(source.read)
        for their in row.theirs:
            name, part = plan.layout.own(their)
            yield name, part, plan.layout.from_theirs(name, arrays.pop(0))


def _specs(layout: Layout, rows: list[Bound], source: HubSource) -> Specs:
    """Name, shape and dtype of the tensors of the file."""
    specs: Specs = {}
    for row in rows:
        for their, shape in zip(row.theirs, row.shapes, strict=True):
            name, part = layout.own(their)
            dtype = np.dtype(np.float32) if layout.is_wide(name, len(shape)) else source.specs[row.ours[0]][1]
            specs[name] = (shape if part is None else (part + 1, *shape), dtype)
    return specs


def _choose(path: Path, config: Model, source: HubSource, family: str | None) -> _Plan:
    """The model as a file of the first architecture that expresses it."""
    problems: list[str] = []
    for architecture in ARCHITECTURES:
        if family in (None, architecture.family):
            try:
                return _planned(path, config, source, architecture)
            except ConfigError as error:
                problems.append(str(error))
    if not problems:
        raise ConfigError(f"{path}: family {family!r} is not written; wanted one of {[one.family for one in ARCHITECTURES]}")
    closest = min(problems, key=lambda problem: ("\n" not in problem, problem.count("\n")))
    raise ConfigError(f"{path}: no architecture of GGUF that we write has this model; the closest: {closest}")


def _planned(path: Path, config: Model, source: HubSource, architecture: Architecture) -> _Plan:
    """The model as a file of ``architecture``. Raises ConfigError where that would be read as another model."""
    family = family_named(architecture.family)
    values = family.write_config(config)
    rows = family.bind(config, {name: shape for name, (shape, _) in source.specs.items()})
    layout = architecture.layout(values)
    metadata, divisors = metadata_of(architecture, values)
    specs = _specs(layout, rows, source)
    if divisors is not None:
        specs = {FREQUENCIES: (divisors.shape, divisors.dtype)} | specs
    header = make_header(metadata, {name: (shape, np.dtype(np.float32)) for name, (shape, _) in specs.items()})
    file = parse_header(path, io.BytesIO(header.content), header.size)
    known = None if divisors is None else [float(str(value)) for value in divisors]
    again = family.read_config(config_values(file, architecture, known), str(path))
    if wrong := differences(flatten(config), flatten(again), ("the model", "its file")):
        raise ConfigError(f"GGUF's {architecture.name} cannot express this model:\n  " + "\n  ".join(wrong))
    return _Plan(layout, rows, metadata, specs, divisors)


def _check_target(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise WeightsError(f"{path}: exists already; choose another place or pass overwrite=True")
    if path.exists() and not is_gguf(path):
        raise WeightsError(f"{path}: will not be replaced, it is no GGUF file")
