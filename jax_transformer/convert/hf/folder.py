"""Folders in Hugging Face layout: opened as a view in hub names, written from hub tensors. One tensor in memory at a time."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jax_transformer.config import Model
from jax_transformer.config.errors import WeightsError
from jax_transformer.convert import hub
from jax_transformer.convert.byte_ops import Shape
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.files import read_values, with_ids
from jax_transformer.convert.pickled import open_stored
from jax_transformer.convert.rows import Bound, Read
from jax_transformer.convert.safetensors_file import Positions, TensorInfo, positions

Shapes = Mapping[str, Shape]
"""Name to shape."""

_ROWS = 4 * 2**20
"""Bytes of a tensor that are compared at a time."""


class HubView(hub.Weights):
    """The tensors of an open checkpoint under their hub names."""

    def __init__(self, weights: hub.Weights, rows: list[Bound], names: Mapping[str, str]) -> None:
        self._weights, self._names = weights, names
        self._rows = {name: (row, number) for row in rows for number, name in enumerate(row.ours)}

    def __getitem__(self, name: str) -> TensorInfo:
        row, number = self._rows[name]
        stored = self._weights[self._names[row.theirs[0]]]
        return TensorInfo(row.hub_shapes[number], stored.dtype, stored.offset)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """The hub tensor, or consecutive ``rows`` of it; nothing else is read."""
        return self.read_part(name, positions(self[name].shape, rows))

    def read_part(self, name: str, part: Positions | None = None) -> np.ndarray:
        """A part of the hub tensor, None for all of it: from the same part of what is stored, wherever that lies."""
        row, number = self._rows[name]
        stored = [self._names[one] for one in row.theirs]
        part = positions(row.hub_shapes[number]) if part is None else part
        array = row.op.take(lambda other, own: self._weights.read_part(stored[other], own), number, part, row.hub_shapes)
        return np.asarray(array, order="C")

    def stored(self, name: str) -> dict[str, Shape]:
        """The tensors of the file, name to shape, that hold a hub tensor: one, parts of several, or part of one."""
        names = [self._names[their] for their in self._rows[name][0].theirs]
        return {self._weights.label(own): tuple(self._weights[own].shape) for own in names}

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every hub tensor; those of one row together, so that each stored tensor is read once."""
        for row in dict.fromkeys(row for row, _ in self._rows.values()):
            yield from _given_away(row.ours, row.to_hub(self._stored))

    def _stored(self, name: str) -> np.ndarray:
        return self._weights.read(self._names[name])


def open_folder(
    folder: str | Path, family: Family, shapes_of: Callable[[Model], Shapes], compute: str | None = None, verify: bool = True
) -> tuple[Model, HubView]:
    """Config and tensors of a folder of ``family``; ``verify`` as in ``open_weights``, the rest as in ``open_tensors``.

    Raises ConfigError for a config that we cannot express, and what ``open_tensors`` does.
    """
    values = read_values(folder)
    config = family.read_config(values, str(Path(folder) / "config.json"))
    return open_tensors((config, values), family, open_stored(folder, verify), shapes_of, compute)


def open_tensors(
    configs: tuple[Model, Mapping[str, Any]],
    family: Family,
    weights: hub.Weights,
    shapes_of: Callable[[Model], Shapes],
    compute: str | None = None,
) -> tuple[Model, HubView]:
    """``weights`` of ``family`` under hub names, and the config that they say, given ours and theirs.

    ``shapes_of`` gives the hub tensors of a config. The model computes in the dtype ``compute``; None: in that of the weights.
    Raises WeightsError that lists every missing, unexpected, misshapen and repeated tensor.
    """
    config, values = configs
    names = _names(family, weights)
    left_out = {copy for copy, original in family.copies if _is_copy(weights, names, copy, original, must=True)}
    if _tied(config) and family.head[0] in names:
        if _is_copy(weights, names, *family.head):
            left_out.add(family.head[0])
        else:
            config = config.model_copy(update={"head": config.head.model_copy(update={"tied": False})})
    rows = family.bind(config, shapes_of(config), names)
    left_out |= _constants(family.constants_of(config), weights, names)
    available = {
        name: weights[stored] for name, stored in names.items() if name not in left_out and not family.is_left_out(name, values)
    }
    wanted = {name: shape for row in rows for name, shape in zip(row.theirs, row.shapes, strict=True)}
    hub.check_shapes(wanted, available, weights.duplicates)
    stored = str(weights[names[rows[0].theirs[0]]].dtype)
    dtype = config.dtype.model_copy(update={"param": stored, "compute": compute or stored})
    return config.model_copy(update={"dtype": dtype}), HubView(weights, rows, names)


@dataclass(frozen=True)
class HubSource:
    """Hub tensors to write: shape and dtype of each, best read in this order, and ``read``, which gives one by name."""

    specs: Mapping[str, tuple[Shape, np.dtype[Any]]]
    read: Read


def write_folder(
    folder: str | Path,
    config: Model,
    family: Family,
    source: HubSource,
    files: Mapping[str, bytes] | None = None,
    **options: Any,
) -> None:
    """Writes hub tensors as a folder of ``family``; ``files`` go beside them, ``options`` to ``write_weights``.

    Token ids in a ``generation_config.json`` among the files, or in the tokenizer of a run, are written to config.json too.
    Raises ConfigError where the family cannot express the config.
    """
    files, values = with_ids(files or {}, family.write_config(config), family.documents)
    rows = family.bind(config, {name: shape for name, (shape, _) in source.specs.items()})
    specs = {
        name: (shape, source.specs[row.ours[0]][1]) for row in rows for name, shape in zip(row.theirs, row.shapes, strict=True)
    }
    stored = source.specs[rows[0].ours[0]][1]
    constants = {name: array.astype(stored) for name, array in family.constants_of(config).items()}
    specs |= {name: (array.shape, stored) for name, array in constants.items()}
    order = {name: place for place, name in enumerate(source.specs)}
    rows = sorted(rows, key=lambda row: order[row.ours[0]])
    tensors = chain.from_iterable(_given_away(row.theirs, row.from_hub(source.read)) for row in rows)
    files["config.json"] = (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
    hub.write_weights(folder, specs, chain(tensors, constants.items()), files, **options)


def _given_away(names: Sequence[str], arrays: list[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Each array with its name; none is kept."""
    for name in names:
        yield name, arrays.pop(0)


def _names(family: Family, weights: hub.Weights) -> dict[str, str]:
    """Full name in today's spelling -> name in the file, which of a model saved without its head lacks the prefix."""
    bare = family.prefix and not any(name.startswith(family.prefix) for name in weights)
    names = {f"{family.prefix}{name}" if bare and name != family.head[0] else name: name for name in weights}
    for old, new in family.spellings:
        names = {name.removesuffix(old) + new if name.endswith(old) else name: stored for name, stored in names.items()}
    return names


def _constants(wanted: Mapping[str, np.ndarray], weights: hub.Weights, names: Mapping[str, str]) -> set[str]:
    """The names of ``wanted``. Raises WeightsError where the file holds anything else under one of them."""
    for name in wanted.keys() & names.keys():
        got = weights.read(names[name]).astype(np.float32)
        if got.shape != wanted[name].shape or not np.allclose(got, wanted[name], rtol=1e-2, atol=1e-4):
            raise WeightsError(
                f"tensor {name!r} of shape {list(got.shape)} is not what follows from config.json, of shape "
                f"{list(wanted[name].shape)}: a model of ours has no place for it; correct the config, or the file"
            )
    return set(wanted)


def _tied(config: Model) -> bool:
    return bool(getattr(config.head, "tied", False))


def _is_copy(weights: hub.Weights, names: Mapping[str, str], copy: str, original: str, must: bool = False) -> bool:
    """Whether the file holds ``copy``, equal to ``original``. With ``must``, WeightsError where they differ."""
    if not {copy, original} <= names.keys() or {names[copy], names[original]} & weights.duplicates.keys():
        return False
    one, other = weights[names[copy]], weights[names[original]]
    same = one.shape == other.shape and one.dtype == other.dtype
    step = max(1, _ROWS // max(1, one.num_bytes // max(one.shape[0], 1)))
    for start in range(0, one.shape[0] if same else 0, step):
        rows = slice(start, start + step)
        same = same and weights.read(names[copy], rows).tobytes() == weights.read(names[original], rows).tobytes()
    if must and not same:
        raise WeightsError(f"tensors {copy!r} and {original!r} are one parameter of the model, but differ in the file")
    return same
