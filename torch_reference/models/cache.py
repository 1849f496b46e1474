"""What a decoder remembers between calls."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from torch_reference.models.checks import check_room
from torch_reference.nn.stack import StackCache
from torch_reference.ops.mask import Mask


@dataclass(frozen=True)
class Source:
    """The encoder's output as the decoder's layers read it."""

    layers: StackCache
    """Keys and values of every cross-attention."""
    mask: Mask
    """Of the source over itself: its key side tells where the tokens are."""


@dataclass(frozen=True)
class Cache:
    """Everything a decoder remembers of the tokens so far."""

    layers: StackCache
    positions: Int[Tensor, "B S"]
    segments: Int[Tensor, "B S"]
    """1 where a slot holds a token, 0 where it is empty or holds padding."""
    length: Int[Tensor, ""]
    """Slots in use, the same in every row."""
    source: Source | None = None

    @staticmethod
    def empty(
        layers: StackCache, batch: int, length: int, source: Source | None = None, device: torch.device | None = None
    ) -> "Cache":
        """No token yet."""
        slots = torch.zeros((batch, length), dtype=torch.int32, device=device)
        used = torch.zeros((), dtype=torch.int32, device=device)
        return Cache(layers, slots, slots, used, source)

    def extend(self, segments: Int[Tensor, "B T"]) -> "Cache":
        """The cache with T more tokens counted, their layers still to be written; ``segments`` are 1, or 0 for padding.

        Padding takes a slot but no position. Raises DataError, outside ``torch.compile``, where there is no room.
        """
        check_room(self.length, segments.shape[1], self.positions.shape[1])
        past = torch.sum(self.segments, dim=1, keepdim=True, dtype=torch.int32)
        positions = past + torch.cumsum(segments, dim=1, dtype=torch.int32) - 1
        slots = self.length + torch.arange(segments.shape[1], device=segments.device)
        positions = self.positions.index_copy(1, slots, positions)
        segments_then = self.segments.index_copy(1, slots, segments)
        return Cache(self.layers, positions, segments_then, self.length + segments.shape[1], self.source)

    def without_last(self) -> "Cache":
        """All but the newest token; only what layers remember by slots can forget it."""
        segments = self.segments.index_fill(1, (self.length - 1)[None].long(), 0)
        return replace(self, segments=segments, length=self.length - 1)

    def newest(self, count: int) -> Mask:
        """Mask of the last ``count`` tokens over all of them."""
        slots = self.length - count + torch.arange(count, device=self.positions.device)
        queries = [values.index_select(1, slots) for values in (self.positions, self.segments)]
        return Mask(queries[0], self.positions, queries[1], self.segments)
