"""JAX parameters <-> hub tensors, by structure: a few leaf rules driven by shape and metadata, no line per variant.

===================================  ==================================================================
JAX                                  hub
===================================  ==================================================================
``p.kernel [*batch, in..., out...]``  ``p.weight [*batch, out, in]``, its in and out dims flattened
``p.scale``, ``p.embedding``           ``p.weight``, unchanged
``p.filter [channels, width]``        ``p.weight``, unchanged
``p.bias [*batch, out...]``           ``p.bias [*batch, out]``
``p.sinks``, ``p.alpha_p``, ``p.alpha_n``  the same name, unchanged
``p.A_log``, ``p.dt_bias``, ``p.choice_bias``  the same
``p.first.<i>.q``                     ``p.layers.<i>.q``; F first layers
``p.slots.<s>.q [R, ...]``            ``p.layers.<F + r * P + s>.q [...]`` for each repeat r; P slots
``p.tail.<i>.q``                      ``p.layers.<F + R * P + i>.q``
===================================  ==================================================================

``*batch`` are the repeats of a slot and the leading dimensions that number copies of the parameter, those of experts.

Values are moved, never computed: any tree of the same structure (gradients, moments) takes the same way, bit by bit.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.hub import check_shapes
from jax_transformer.convert.safetensors_file import Positions, flattened

_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "filter": "weight", "bias": "bias"}
_LEAVES |= {name: name for name in ("sinks", "alpha_p", "alpha_n", "A_log", "dt_bias", "choice_bias")}
_FIRST = re.compile(r"((?:.*\.)?)first\.(\d+)\.(.+)")
_SLOT = re.compile(r"((?:.*\.)?)slots\.(\d+)\.(.+)")
_TAIL = re.compile(r"((?:.*\.)?)tail\.(\d+)\.(.+)")

Index = tuple[slice, ...]
"""Part of an array: one slice per dimension."""

ReadPart = Callable[[str, Positions | None], np.ndarray]
"""A part of a hub tensor, by its name; all of it for None."""


class ParamSpec(Protocol):
    """What the layout needs of a parameter's spec; ``jax_transformer.nn.params.ParamSpec`` is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def axes(self) -> tuple[str, ...]: ...
    @property
    def contracted(self) -> int: ...
    @property
    def copies(self) -> int: ...


@dataclass(frozen=True)
class Entry:
    """One hub tensor and the parameter, or the repeat ``index`` of a stacked parameter, that it is."""

    hub_name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    jax_path: str
    index: int | None


def hub_entries(specs: Mapping[str, ParamSpec]) -> list[Entry]:
    """The hub tensors of a model, in the order of its parameters and repeats.

    Raises WeightsError where a parameter has no rule, or two would become one tensor.
    """
    stacks = _stacks(specs)
    entries: dict[str, Entry] = {}
    for path, spec in specs.items():
        for name, index in _layers(path, spec, stacks):
            entry = Entry(_rename(name), _hub_shape(path, spec, index is not None), np.dtype(spec.dtype), path, index)
            if other := entries.get(entry.hub_name):
                raise WeightsError(f"parameters {other.jax_path} and {path} would both be tensor {entry.hub_name!r}")
            entries[entry.hub_name] = entry
    return list(entries.values())


def check_names(specs: Mapping[str, ParamSpec], available: Mapping[str, Any]) -> None:
    """``available`` (name to anything with a ``shape``) must be exactly the hub tensors of ``specs``.

    Raises WeightsError as ``check_shapes`` does, with everything that is wrong at once.
    """
    check_shapes({entry.hub_name: entry.shape for entry in hub_entries(specs)}, available)


def to_hub(params: Mapping[str, Any], specs: Mapping[str, ParamSpec]) -> Iterator[tuple[str, np.ndarray]]:
    """Streams the hub tensors of ``params``, one layer at a time. Arrays keep their own dtype.

    Raises WeightsError where ``params`` do not have the paths and shapes of ``specs``.
    """
    shapes = {path: tuple(array.shape) for path, array in params.items()}
    wanted = {path: spec.shape for path, spec in specs.items()}
    if wrong := sorted(path for path in shapes.keys() | wanted.keys() if shapes.get(path) != wanted.get(path)):
        problems = "; ".join(f"{path}: {shapes.get(path, 'missing')}, wanted {wanted.get(path, 'none')}" for path in wrong)
        raise WeightsError(f"parameters do not have the model's structure: {problems}")
    for entry in hub_entries(specs):
        yield entry.hub_name, _entry_of(params[entry.jax_path], entry, specs[entry.jax_path])


def _entry_of(array: Any, entry: Entry, spec: ParamSpec) -> np.ndarray:
    own = np.asarray(array if entry.index is None else array[entry.index])
    return own.transpose(_hub_order(entry, spec)).reshape(entry.shape)


def from_hub(hub: Mapping[str, np.ndarray], specs: Mapping[str, ParamSpec]) -> dict[str, np.ndarray]:
    """The parameters of ``specs`` from hub tensors, in the dtype that the tensors have.

    Raises WeightsError where ``hub`` does not have exactly the tensors that the specs ask for.
    """
    check_names(specs, hub)

    def read(name: str, part: Positions | None) -> np.ndarray:
        return hub[name] if part is None else hub[name][np.ix_(*part)]

    entries = entries_by_param(specs)
    return {path: read_param(read, entries[path], spec) for path, spec in specs.items()}


def entries_by_param(specs: Mapping[str, ParamSpec]) -> dict[str, list[Entry]]:
    """``hub_entries`` grouped by parameter; those of a stacked one are in the order of its repeats."""
    grouped: dict[str, list[Entry]] = {path: [] for path in specs}
    for entry in hub_entries(specs):
        grouped[entry.jax_path].append(entry)
    return grouped


def read_param(read: ReadPart, entries: Sequence[Entry], spec: ParamSpec, part: Index | None = None) -> np.ndarray:
    """One parameter, or the ``part`` of it, from its hub tensors; ``read(name, part)`` is asked for nothing else.

    Peak memory is the result and the part of one hub tensor. Raises WeightsError where repeats differ in dtype.
    """
    bounds = [item.indices(size)[:2] for item, size in zip(part or (slice(None),) * len(spec.shape), spec.shape, strict=True)]
    if entries[0].index is None:
        return _read_entry(read, entries[0], spec, bounds)
    result: np.ndarray | None = None
    start, stop = bounds[0]
    for row, entry in enumerate(entries[start:stop]):
        layer = _read_entry(read, entry, spec, bounds[1:])
        if result is None:
            result = np.empty((stop - start, *layer.shape), layer.dtype)
        if layer.dtype != result.dtype:
            raise WeightsError(f"tensor {entry.hub_name!r} is {layer.dtype}, but {entries[start].hub_name!r} is {result.dtype}")
        result[row] = layer
    assert result is not None
    return result


def _read_entry(read: ReadPart, entry: Entry, spec: ParamSpec, bounds: Sequence[tuple[int, int]]) -> np.ndarray:
    if not bounds:
        return read(entry.hub_name, None)
    own = spec.shape[len(spec.shape) - len(bounds) :]
    groups = _hub_groups(entry.jax_path, spec, entry.index is not None)
    order = _hub_order(entry, spec)
    chosen = [np.arange(*bound) for bound in bounds]
    # A hub dimension that several of the parameter's were flattened into is cut wherever one of them is.
    part = tuple(flattened(tuple(own[axis] for axis in group), tuple(chosen[axis] for axis in group)) for group in groups)
    whole = all(bound == (0, size) for bound, size in zip(bounds, own, strict=True))
    array = read(entry.hub_name, None if whole else part)
    return np.ascontiguousarray(array.reshape([len(chosen[axis]) for axis in order]).transpose(np.argsort(order)))


def _hub_order(entry: Entry, spec: ParamSpec) -> list[int]:
    """The axes of one repeat in the order of the hub."""
    return [axis for group in _hub_groups(entry.jax_path, spec, entry.index is not None) for axis in group]


def _hub_groups(path: str, spec: ParamSpec, stacked: bool) -> list[list[int]]:
    """The axes of one repeat that are each dimension of the hub: outputs before inputs for a kernel."""
    rank = len(spec.shape) - stacked
    start = rank - len(spec.axes) + spec.copies
    batch, own = [[axis] for axis in range(start)], list(range(start, rank))
    if _is_kernel(path):
        return [*batch, own[spec.contracted :], own[: spec.contracted]]
    return [*batch, own] if path.endswith(".bias") and own else [*batch, *([axis] for axis in own)]


def _hub_shape(path: str, spec: ParamSpec, stacked: bool) -> tuple[int, ...]:
    if _is_kernel(path) and not 0 < spec.contracted < len(spec.axes) - spec.copies:
        raise WeightsError(
            f"parameter {path}: {spec.contracted} of {len(spec.axes) - spec.copies} dims are inputs; a kernel has inputs and "
            "outputs"
        )
    own = spec.shape[stacked:]
    return tuple(math.prod(own[axis] for axis in group) for group in _hub_groups(path, spec, stacked))


def _is_kernel(path: str) -> bool:
    return path.rpartition(".")[2] == "kernel"


def _rename(path: str) -> str:
    prefix, _, leaf = path.rpartition(".")
    if leaf not in _LEAVES or not prefix:
        raise WeightsError(f"parameter {path}: no rule for {leaf!r}; a parameter ends in one of {', '.join(_LEAVES)}")
    return f"{prefix}.{_LEAVES[leaf]}"


def _layers(path: str, spec: ParamSpec, stacks: Mapping[str, tuple[int, int, int]]) -> list[tuple[str, int | None]]:
    """Every path by layer that ``path`` stands for, with its repeat; a parameter outside a stack stands for itself."""
    if first := _FIRST.fullmatch(path):
        return [(f"{first[1]}layers.{first[2]}.{first[3]}", None)]
    if slot := _SLOT.fullmatch(path):
        start, repeats, period = stacks[slot[1]]
        if spec.shape[:1] != (repeats,) or len(spec.shape) == len(spec.axes):
            raise WeightsError(f"parameter {path}: shape {spec.shape} of axes {spec.axes} has no leading {repeats} repeats")
        return [(f"{slot[1]}layers.{start + repeat * period + int(slot[2])}.{slot[3]}", repeat) for repeat in range(repeats)]
    if tail := _TAIL.fullmatch(path):
        start, repeats, period = stacks.get(tail[1], (0, 0, 0))
        return [(f"{tail[1]}layers.{start + repeats * period + int(tail[2])}.{tail[3]}", None)]
    return [(path, None)]


def _stacks(specs: Mapping[str, ParamSpec]) -> dict[str, tuple[int, int, int]]:
    """Prefix of each stack to its number of first layers, its repeats and its slots."""
    first: dict[str, int] = {}
    slots: dict[str, set[int]] = {}
    repeats: dict[str, int] = {}
    for path, spec in specs.items():
        if match := _FIRST.fullmatch(path):
            first[match[1]] = max(first.get(match[1], 0), int(match[2]) + 1)
        if match := _SLOT.fullmatch(path):
            slots.setdefault(match[1], set()).add(int(match[2]))
            repeats.setdefault(match[1], spec.shape[0] if spec.shape else 0)
    for prefix, found in slots.items():
        if found != set(range(len(found))):
            raise WeightsError(f"{prefix}slots: has slots {sorted(found)}, wanted 0 to {len(found) - 1}")
    return {
        prefix: (first.get(prefix, 0), repeats.get(prefix, 0), len(slots.get(prefix, ())))
        for prefix in first.keys() | slots.keys()
    }
