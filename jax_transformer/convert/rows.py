"""Rows between two vocabularies of tensor names.

A ``Row`` says that some tensors of a Hugging Face file are some tensors of the hub, through an op of ``byte_ops``. Names hold
``{layer}`` (and ``{expert}`` for ``Stack``). ``bind`` writes a table out for one model; a bound row knows every name and shape
of both sides, so a table reads and writes with the same lines.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.byte_ops import Arrays, Chain, Fuse, Op, Same, Shape

SAME = Same()

When = tuple[str, tuple[Any, ...]]
Read = Callable[[str], np.ndarray]
"""A tensor by its name."""


@dataclass(frozen=True)
class Row:
    """``theirs`` are ``ours`` through ``op``. A row whose hub tensors a model does not have says nothing about that model."""

    theirs: str
    ours: tuple[str, ...]
    op: Op = SAME
    when: When | None = None
    """A config path and the values that the row speaks of; None: of all."""
    alternative: bool = False
    """Some files have these tensors in place of those of the table's other rows: read where a file does, never written."""


@dataclass(frozen=True)
class Drop:
    """A pattern of tensors that are read over and never written: saved buffers, heads that serve training only."""

    theirs: str
    reason: str

    def covers(self, name: str) -> bool:
        """Whether ``name`` is one of them; ``{layer}`` stands for a number, ``*`` for anything."""
        pattern = re.escape(self.theirs).replace(r"\{layer\}", r"\d+").replace(r"\*", ".*")
        return re.fullmatch(pattern, name) is not None


@dataclass(frozen=True)
class Constant:
    """Tensors that follow from the config, and that a file has nevertheless: compared when read, written again."""

    theirs: str
    value: Callable[[Mapping[str, Any]], np.ndarray]
    """Of the config, by path; float32."""

    def named(self, facts: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Those of a model, by name: of every layer where the name holds ``{layer}``."""
        numbers = range(facts["stack.num_layers"]) if "{layer}" in self.theirs else [0]
        return {self.theirs.replace("{layer}", str(number)): self.value(facts) for number in numbers}


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


def bind(rows: Iterable[Row], hub: Mapping[str, Shape], facts: Mapping[str, Any], stored: Collection[str] = ()) -> list[Bound]:
    """The rows of a model with the hub tensors ``hub`` (name to shape); ``facts`` are its config, by path.

    ``stored`` are the names in a file that is to be read: rows that are an alternative take the place of others where it has
    their tensors.
    Raises WeightsError where a hub tensor is in no row, in two, or in a row that finds only some of its tensors.
    """
    layers = sorted({int(match[1]) for name in hub if (match := re.search(r"\blayers\.(\d+)\.", name))})
    bound, others = [], []
    for row in rows:
        numbers = layers if any("{layer}" in name for name in row.ours) else [0]
        found = [one for number in numbers if (one := _bind(row, number, hub, facts)) is not None]
        if row.alternative:
            others += [one for one in found if all(name in stored for name in one.theirs)]
        else:
            bound += found
    replaced = {name for one in others for name in one.ours}
    bound = [one for one in bound if replaced.isdisjoint(one.ours)] + others
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
