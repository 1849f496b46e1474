"""The short causal convolution before the delta rule: each channel over its own last few columns, then SiLU."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_reference.ops.precision import at_least_float32
from torch_reference.ops.segments import segment_runs


def short_conv(
    x: Float[Tensor, "B T C"],
    weight: Float[Tensor, "C W"],
    *,
    segments: Int[Tensor, "B T"] | None = None,
    state: Float[Tensor, "B P C"] | None = None,
) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B P C"]]:
    """``silu(sum_j weight[:, W - 1 - j] * x_{t - j})`` for ``j < W`` and the last ``P = W - 1`` columns, as the next state.

    ``state`` is what earlier tokens left, None zeros: the columns right before the first token that is no padding. Columns of
    another segment count as zeros, and so does padding (segment 0) inside a segment. Padding gets zeros and leaves the state as
    the last token before it does. Sums are float32 at least.
    """
    (batch, length, _), past = x.shape, weight.shape[1] - 1
    state = x.new_zeros((batch, past, x.shape[2])) if state is None else state.to(x.dtype)
    if segments is None:
        columns, runs = torch.cat([state, x], dim=1), None
        state = columns[:, length:]
    else:
        columns, runs = _behind_state(x, state, segments)
        state = _last(columns, runs, segments)
    wide, taps = at_least_float32(x.dtype), weight.to(at_least_float32(x.dtype))
    total = torch.zeros(x.shape, dtype=wide, device=x.device)
    for tap in range(past + 1):
        column = columns[:, tap : tap + length].to(wide)
        if runs is not None:
            column = torch.where((runs[:, tap : tap + length] == runs[:, past:])[:, :, None], column, 0.0)
        total = total + column * taps[None, None, :, tap]
    out = torch.nn.functional.silu(total).to(x.dtype)
    return (out if segments is None else torch.where((segments != 0)[:, :, None], out, 0.0)), state


def _behind_state(
    x: Float[Tensor, "B T C"], state: Float[Tensor, "B P C"], segments: Int[Tensor, "B T"]
) -> tuple[Float[Tensor, "B S C"], Int[Tensor, "B S"]]:
    """P more columns in front, the state right before the first token that is no padding, and the run of every column.

    Padding is of run -1; the state is of run 0, which is the one that goes on.
    """
    past, real = state.shape[1], segments != 0
    first = torch.where(torch.any(real, dim=1), torch.argmax(real.int(), dim=1), segments.shape[1])
    rows, places = torch.arange(len(x), device=x.device)[:, None], first[:, None] + torch.arange(past, device=x.device)[None, :]
    columns = torch.cat([torch.zeros_like(state), x], dim=1)
    runs = torch.nn.functional.pad(torch.where(real, segment_runs(segments), -1), (past, 0), value=-1)
    zero = torch.zeros((), dtype=runs.dtype, device=runs.device)
    return columns.index_put((rows, places), state), runs.index_put((rows, places), zero)


def _last(columns: Float[Tensor, "B S C"], runs: Int[Tensor, "B S"], segments: Int[Tensor, "B T"]) -> Float[Tensor, "B P C"]:
    """The P columns up to the last that is no padding, zeros where they are not of its run."""
    length, real = segments.shape[1], segments != 0
    past = runs.shape[1] - length
    back = torch.argmax(torch.flip(real, (1,)).int(), dim=1)
    last = length - 1 - torch.where(torch.any(real, dim=1), back, 0)
    places = last[:, None] + 1 + torch.arange(past, device=segments.device)[None, :]
    run = torch.take_along_dim(runs, last[:, None] + past, dim=1)
    same = torch.take_along_dim(runs, places, dim=1) == run
    return torch.where(same[:, :, None], torch.take_along_dim(columns, places[:, :, None], dim=1), 0.0)
