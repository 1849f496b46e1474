"""The gated delta rule token by token, which defines it (Yang et al. 2024, https://arxiv.org/abs/2412.06464)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_reference.ops.precision import at_least_float32
from torch_reference.ops.segments import segment_starts

FORGET = -1000.0
"""A log-decay that leaves nothing: its exponential is 0 in float64 too."""


def segment_gates(
    log_decay: Float[Tensor, "B T N"], beta: Float[Tensor, "B T N"], segments: Int[Tensor, "B T"] | None
) -> tuple[Float[Tensor, "B T N"], Float[Tensor, "B T N"]]:
    """The gates with segments in them: a start forgets everything before it, padding neither decays nor writes."""
    if segments is None:
        return log_decay, beta
    real = (segments != 0)[:, :, None]
    log_decay = torch.where(segment_starts(segments)[:, :, None], FORGET, log_decay)
    return torch.where(real, log_decay, 0.0), torch.where(real, beta, 0.0)


def recurrent_delta_rule(
    q: Float[Tensor, "B T K H"],
    k: Float[Tensor, "B T K H"],
    v: Float[Tensor, "B T N V"],
    log_decay: Float[Tensor, "B T N"],
    beta: Float[Tensor, "B T N"],
    *,
    segments: Int[Tensor, "B T"] | None = None,
    state: Float[Tensor, "B N H V"] | None = None,
) -> tuple[Float[Tensor, "B T N V"], Float[Tensor, "B N H V"]]:
    """``S *= exp(log_decay); S += k (beta (v - S^T k))^T; o = S^T q / sqrt(H)`` at each token; the outputs and the last S.

    ``q`` and ``k`` come in normalised; value head ``n`` reads key head ``n // (N / K)``. ``log_decay <= 0``. ``state`` is what
    earlier tokens left, None zeros; everything is float32 at least. The state is emptied where a segment starts; padding
    (segment 0) leaves it alone and gets zeros.
    """
    dtype = at_least_float32(v.dtype)
    repeats = v.shape[2] // k.shape[2]
    log_decay, beta = segment_gates(log_decay.to(dtype), beta.to(dtype), segments)
    queries, keys = (torch.repeat_interleave(x.to(dtype), repeats, dim=2) for x in (q, k))
    queries = queries * k.shape[3] ** -0.5
    if state is None:
        state = keys.new_zeros((v.shape[0], v.shape[2], k.shape[3], v.shape[3]))
    state, values, decays, outs = state.to(dtype), v.to(dtype), torch.exp(log_decay), []
    for t in range(v.shape[1]):
        state = state * decays[:, t, :, None, None]
        known = torch.einsum("BNHV,BNH->BNV", state, keys[:, t])
        state = state + keys[:, t, :, :, None] * (beta[:, t, :, None] * (values[:, t] - known))[..., None, :]
        outs.append(torch.einsum("BNHV,BNH->BNV", state, queries[:, t]))
    out = torch.stack(outs, dim=1)
    return (out if segments is None else torch.where((segments != 0)[:, :, None, None], out, 0.0)).to(v.dtype), state
