"""Who sees whom, as data: positions and segments per token, turned into booleans only inside the kernel."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Mask:
    """Positions and segments of the queries and of the keys; a leading dimension of 1 stands for every row.

    Segment 0 is padding: it is seen by nobody and sees nobody. Tokens of different segments do not see one another.
    Segments of None mean one segment per row and no padding.
    """

    q_positions: Int[Tensor, "#B T"]
    k_positions: Int[Tensor, "#B S"]
    q_segments: Int[Tensor, "B T"] | None = None
    k_segments: Int[Tensor, "B S"] | None = None

    def allowed(self, window: int | None = None) -> Bool[Tensor, "#B T S"]:
        """True where query t may see key s: same segment, not later, and with a window among the last ``window`` tokens,
        itself included (``0 <= q_position - k_position < window``)."""
        distance = self.q_positions[:, :, None] - self.k_positions[:, None, :]
        seen = distance >= 0
        if window is not None:
            seen = seen & (distance < window)
        if self.q_segments is not None and self.k_segments is not None:
            same = self.q_segments[:, :, None] == self.k_segments[:, None, :]
            seen = seen & same & (self.k_segments[:, None, :] != 0)
        return seen


def causal_mask(length: int, segments: Int[Tensor, "B T"] | None = None, device: torch.device | None = None) -> Mask:
    """Mask of a whole sequence over itself; ``device`` is where its positions live if no segments say it."""
    if segments is None:
        positions = torch.arange(length, dtype=torch.int32, device=device)[None, :]
        return Mask(positions, positions)
    positions = segment_positions(segments)
    return Mask(positions, positions, segments, segments)


def segment_positions(segments: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Position of each token inside its own segment: counts from 0 and restarts wherever the segment id changes."""
    index = torch.arange(segments.shape[1], dtype=torch.int32, device=segments.device)[None, :]
    changes = segments[:, 1:] != segments[:, :-1]
    starts = torch.nn.functional.pad(torch.where(changes, index[:, 1:], 0), (1, 0))
    return index - torch.cummax(starts, dim=1).values
