"""Where segments begin, for mixers that carry a state from token to token."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def segment_starts(segments: Int[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """True at tokens whose last predecessor that is no padding is of another segment: here a state begins anew.

    The first token of a row is no such start: it goes on with the state that the caller has, which for a new text is empty.
    Padding (segment 0) starts nothing.
    """
    index = torch.arange(segments.shape[1], device=segments.device)[None, :]
    last = torch.cummax(torch.where(segments != 0, index, -1), dim=1).values
    before = torch.nn.functional.pad(last[:, :-1], (1, 0), value=-1)
    earlier = torch.gather(segments, 1, torch.clamp(before, min=0))
    return (segments != 0) & (before >= 0) & (earlier != segments)


def segment_runs(segments: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Number of starts so far: 0 for what continues the caller's state; padding counts with what it follows."""
    return torch.cumsum(segment_starts(segments), dim=1, dtype=torch.int32)
