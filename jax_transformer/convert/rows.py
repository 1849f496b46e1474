"""Invertible rows between two vocabularies of tensor names: each moves bytes and computes nothing.

A ``Row`` says that some tensors of a Hugging Face file are some tensors of the hub, through an ``Op``. Names hold ``{layer}``
(and ``{expert}`` for ``Stack``). ``bind`` writes a table out for one model; a bound row knows every name and shape of both
sides, so a table reads and writes with the same lines.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jax_transformer.config.errors import WeightsError

Shape = tuple[int, ...]
Arrays = list[np.ndarray]
When = tuple[str, tuple[Any, ...]]
Read = Callable[[str], np.ndarray]
"""A tensor by its name."""


class Op(Protocol):
    """A permutation of bytes between hub tensors and the tensors of another format."""

    def shapes(self, hub: Sequence[Shape]) -> list[Shape]:
        """Shapes on the other side."""
        ...

    def from_hub(self, hub: Arrays) -> Arrays:
        """The other side's tensors."""
        ...

    def to_hub(self, other: Arrays, hub: Sequence[Shape]) -> Arrays:
        """The inverse, given the shapes of the hub."""
        ...


@dataclass(frozen=True)
class Same:
    """One tensor, the same on both sides."""

    def shapes(self, hub: Sequence[Shape]) -> list[Shape]:
        """As they are."""
        return list(hub)

    def from_hub(self, hub: Arrays) -> Arrays:
        """As they are."""
        return hub

    def to_hub(self, other: Arrays, hub: Sequence[Shape]) -> Arrays:
        """As they are."""
        return other


@dataclass(frozen=True)
class Transpose:
    """The last two dimensions change places: GPT-2's ``Conv1D``, experts stored ``[E, in, out]``."""

    def shapes(self, hub: Sequence[Shape]) -> list[Shape]:
        """The last two dimensions swapped."""
        return [(*shape[:-2], shape[-1], shape[-2]) if len(shape) > 1 else shape for shape in hub]

    def from_hub(self, hub: Arrays) -> Arrays:
        """The last two dimensions swapped; vectors are left as they are."""
        return [array.swapaxes(-1, -2) if array.ndim > 1 else array for array in hub]

    def to_hub(self, other: Arrays, hub: Sequence[Shape]) -> Arrays:
        """Its own inverse."""
        return self.from_hub(other)


@dataclass(frozen=True)
class Fuse:
    """Several hub tensors as the rows (``axis`` 0) of one: in each of ``groups`` groups, each tensor's share in turn.

    One group: ``[q; k; v]``. As many as heads: ``[H, 3, hd]`` (GPT-NeoX). As many as key/value heads: ``[K, (r q, k, v), hd]``
    (Falcon). As many as rows: interleaved (gpt-oss's gate and up). A config path gives a number per layer.
    """

    groups: int | str = 1
    axis: int = 0

    def shapes(self, hub: Sequence[Shape]) -> list[Shape]:
        """One tensor with the rows of all."""
        return [(*hub[0][: self.axis], sum(shape[self.axis] for shape in hub), *hub[0][self.axis + 1 :])]

    def from_hub(self, hub: Arrays) -> Arrays:
        """Group by group."""
        shape = self.shapes([array.shape for array in hub])[0]
        return [np.concatenate([self._grouped(array) for array in hub], axis=self.axis + 1).reshape(shape)]

    def to_hub(self, other: Arrays, hub: Sequence[Shape]) -> Arrays:
        """Taken apart."""
        ends = np.cumsum([shape[self.axis] // int(self.groups) for shape in hub])
        parts = np.split(self._grouped(other[0]), ends[:-1], axis=self.axis + 1)
        return [part.reshape(shape) for part, shape in zip(parts, hub, strict=True)]

    def _grouped(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(*array.shape[: self.axis], int(self.groups), -1, *array.shape[self.axis + 1 :])


@dataclass(frozen=True)
class Stack:
    """One hub tensor ``[E, ...]`` as E tensors: experts, or heads with a norm each. The other name holds ``{expert}``."""

    def shapes(self, hub: Sequence[Shape]) -> list[Shape]:
        """E times the rest."""
        return [hub[0][1:]] * hub[0][0]

    def from_hub(self, hub: Arrays) -> Arrays:
        """One by one."""
        return list(hub[0])

    def to_hub(self, other: Arrays, hub: Sequence[Shape]) -> Arrays:
        """On top of one another."""
        return [np.stack(other)]


@dataclass(frozen=True)
class Chain:
    """Several ops, those nearest to the hub first."""

    ops: tuple[Op, ...]

    def shapes(self, hub: Sequence[Shape]) -> list[Shape]:
        """Those of the last op."""
        return self._all_shapes(hub)[-1]

    def from_hub(self, hub: Arrays) -> Arrays:
        """One after the other."""
        for op in self.ops:
            hub = op.from_hub(hub)
        return hub

    def to_hub(self, other: Arrays, hub: Sequence[Shape]) -> Arrays:
        """Backwards."""
        for op, shapes in zip(reversed(self.ops), reversed(self._all_shapes(hub)[:-1]), strict=True):
            other = op.to_hub(other, shapes)
        return other

    def _all_shapes(self, hub: Sequence[Shape]) -> list[list[Shape]]:
        shapes = [list(hub)]
        for op in self.ops:
            shapes.append(op.shapes(shapes[-1]))
        return shapes


@dataclass(frozen=True)
class Row:
    """``theirs`` are ``ours`` through ``op``. A row whose hub tensors a model does not have says nothing about that model."""

    theirs: str
    ours: tuple[str, ...]
    op: Op = Same()
    when: When | None = None
    """A config path and the values that the row speaks of; None: of all."""


@dataclass(frozen=True)
class Drop:
    """A pattern of tensors that are read over and never written: saved buffers, which follow from the config."""

    theirs: str
    reason: str

    def covers(self, name: str) -> bool:
        """Whether ``name`` is one of them; ``{layer}`` stands for a number."""
        return re.fullmatch(re.escape(self.theirs).replace(r"\{layer\}", r"\d+"), name) is not None


@dataclass(frozen=True)
class Bound:
    """A row of one model: names and shapes of both sides."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    op: Op
    hub_shapes: tuple[Shape, ...]

    @property
    def shapes(self) -> list[Shape]:
        """Shapes of the other side."""
        return self.op.shapes(self.hub_shapes)

    def to_hub(self, read: Read) -> Arrays:
        """The hub tensors, from those that ``read`` gives. Peak memory: the row's tensors on both sides."""
        arrays = self.op.to_hub([read(name) for name in self.theirs], self.hub_shapes)
        return [np.ascontiguousarray(array) for array in arrays]

    def from_hub(self, read: Read) -> Arrays:
        """The inverse of ``to_hub``."""
        return [np.ascontiguousarray(array) for array in self.op.from_hub([read(name) for name in self.ours])]


def bind(rows: Iterable[Row], hub: Mapping[str, Shape], facts: Mapping[str, Any]) -> list[Bound]:
    """The rows of a model with the hub tensors ``hub`` (name to shape); ``facts`` are its config, by path.

    Raises WeightsError where a hub tensor is in no row, in two, or in a row that finds only some of its tensors.
    """
    layers = sorted({int(match[1]) for name in hub if (match := re.search(r"\blayers\.(\d+)\.", name))})
    bound = []
    for row in rows:
        numbers = layers if any("{layer}" in name for name in row.ours) else [0]
        bound += [one for number in numbers if (one := _bind(row, number, hub, facts)) is not None]
    used: dict[str, int] = {}
    for one in bound:
        for name in one.ours:
            used[name] = used.get(name, 0) + 1
    wrong = [f"{name} has no place in the format" for name in hub if name not in used]
    wrong += [f"{name} has {count} places in the format" for name, count in used.items() if count > 1]
    if wrong:
        raise WeightsError("the model's tensors do not fit the table of the family:\n  " + "\n  ".join(wrong))
    return bound


def _bind(row: Row, layer: int, hub: Mapping[str, Shape], facts: Mapping[str, Any]) -> Bound | None:
    ours = tuple(name.replace("{layer}", str(layer)) for name in row.ours)
    other = row.when is not None and facts.get(row.when[0].replace("{layer}", str(layer))) not in row.when[1]
    if other or not all(name in hub for name in ours):
        return None
    op = _resolve(row.op, layer, facts)
    shapes = tuple(hub[name] for name in ours)
    their = row.theirs.replace("{layer}", str(layer))
    count = len(op.shapes(shapes))
    theirs = tuple(their.replace("{expert}", str(number)) for number in range(count)) if "{expert}" in their else (their,)
    return Bound(theirs, ours, op, shapes)


def _resolve(op: Op, layer: int, facts: Mapping[str, Any]) -> Op:
    if isinstance(op, Chain):
        return Chain(tuple(_resolve(part, layer, facts) for part in op.ops))
    if isinstance(op, Fuse) and isinstance(op.groups, str):
        return Fuse(int(facts[op.groups.replace("{layer}", str(layer))]), op.axis)
    return op
