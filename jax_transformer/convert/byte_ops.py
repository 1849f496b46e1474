"""Invertible ops between two vocabularies of tensors: each moves bytes and computes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jax_transformer.convert.safetensors_file import Positions, positions

Shape = tuple[int, ...]
Arrays = list[np.ndarray]
ReadOther = Callable[[int, Positions], np.ndarray]
"""A part of one of the tensors on the other side, by its number."""


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

    def take(self, read: ReadOther, number: int, part: Positions, hub: Sequence[Shape]) -> np.ndarray:
        """A part of hub tensor ``number``; nothing else is read, but where an op says so."""
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

    def take(self, read: ReadOther, number: int, part: Positions, hub: Sequence[Shape]) -> np.ndarray:
        """As it is."""
        return read(number, part)


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

    def take(self, read: ReadOther, number: int, part: Positions, hub: Sequence[Shape]) -> np.ndarray:
        """Rows are columns there."""
        if len(part) < 2:
            return read(number, part)
        return read(number, (*part[:-2], part[-1], part[-2])).swapaxes(-1, -2)


@dataclass(frozen=True)
class Reshape:
    """The same bytes in another shape, of which one dimension may be -1: BART's ``final_logits_bias [1, V]``."""

    shape: Shape

    def shapes(self, hub: Sequence[Shape]) -> list[Shape]:
        """The other shape, complete."""
        return [np.broadcast_to(np.int8(0), shape).reshape(self.shape).shape for shape in hub]

    def from_hub(self, hub: Arrays) -> Arrays:
        """Reshaped."""
        return [array.reshape(self.shape) for array in hub]

    def to_hub(self, other: Arrays, hub: Sequence[Shape]) -> Arrays:
        """Reshaped back."""
        return [array.reshape(shape) for array, shape in zip(other, hub, strict=True)]

    def take(self, read: ReadOther, number: int, part: Positions, hub: Sequence[Shape]) -> np.ndarray:
        """Cut from the whole tensor, which is read: families reshape vectors alone."""
        return read(number, positions(self.shapes(hub)[number])).reshape(hub[number])[np.ix_(*part)]


@dataclass(frozen=True)
class Insert:
    """One more dimension, of one: a filter per channel as torch's ``Conv1d`` stores it, ``[C, 1, W]``."""

    axis: int = 1

    def shapes(self, hub: Sequence[Shape]) -> list[Shape]:
        """One dimension more."""
        return [(*shape[: self.axis], 1, *shape[self.axis :]) for shape in hub]

    def from_hub(self, hub: Arrays) -> Arrays:
        """One dimension more."""
        return [np.expand_dims(array, self.axis) for array in hub]

    def to_hub(self, other: Arrays, hub: Sequence[Shape]) -> Arrays:
        """One dimension less."""
        return [np.squeeze(array, self.axis) for array in other]

    def take(self, read: ReadOther, number: int, part: Positions, hub: Sequence[Shape]) -> np.ndarray:
        """One dimension less."""
        return np.squeeze(read(number, (*part[: self.axis], np.arange(1), *part[self.axis :])), self.axis)


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

    def take(self, read: ReadOther, number: int, part: Positions, hub: Sequence[Shape]) -> np.ndarray:
        """The rows behind those of the tensors before it, in each group."""
        shares = [shape[self.axis] // int(self.groups) for shape in hub]
        group, own = np.divmod(part[self.axis], shares[number])
        rows = group * sum(shares) + sum(shares[:number]) + own
        return read(0, (*part[: self.axis], rows, *part[self.axis + 1 :]))

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

    def take(self, read: ReadOther, number: int, part: Positions, hub: Sequence[Shape]) -> np.ndarray:
        """From the tensors of those alone."""
        return np.stack([read(int(one), part[1:]) for one in part[0]])


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

    def take(self, read: ReadOther, number: int, part: Positions, hub: Sequence[Shape]) -> np.ndarray:
        """Each op asks the next one."""
        for op, shapes in reversed(list(zip(self.ops, self._all_shapes(hub)[:-1], strict=True))):
            read = _through(op, read, shapes)
        return read(number, part)

    def _all_shapes(self, hub: Sequence[Shape]) -> list[list[Shape]]:
        shapes = [list(hub)]
        for op in self.ops:
            shapes.append(op.shapes(shapes[-1]))
        return shapes


def _through(op: Op, read: ReadOther, hub: Sequence[Shape]) -> ReadOther:
    return lambda number, part: op.take(read, number, part, hub)
