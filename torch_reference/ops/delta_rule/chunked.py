"""The gated delta rule by chunks: the WY form (Yang et al. 2024, https://arxiv.org/abs/2406.06484), matmuls and one scan.

Inside a chunk, with ``G`` the sums of log-decays from its first token on, ``D_ij = exp(G_i - G_j)`` for ``i >= j`` and
``L = tril(diag(beta) K K^T * D, -1)``, the values that tokens write are ``U = (I + L)^-1 diag(beta) (V - diag(exp(G)) K S)``.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_reference.ops.delta_rule.recurrent import FORGET, segment_gates
from torch_reference.ops.precision import at_least_float32


def chunked_delta_rule(
    q: Float[Tensor, "B T K H"],
    k: Float[Tensor, "B T K H"],
    v: Float[Tensor, "B T N V"],
    log_decay: Float[Tensor, "B T N"],
    beta: Float[Tensor, "B T N"],
    *,
    segments: Int[Tensor, "B T"] | None = None,
    state: Float[Tensor, "B N H V"] | None = None,
    chunk: int = 64,
) -> tuple[Float[Tensor, "B T N V"], Float[Tensor, "B N H V"]]:
    """What ``recurrent_delta_rule`` computes, as matmuls over chunks of ``chunk`` tokens."""
    (batch, length, heads, v_dim), dtype = v.shape, at_least_float32(v.dtype)
    size, repeats = min(chunk, length), heads // k.shape[2]
    log_decay, rate = segment_gates(log_decay.to(dtype), beta.to(dtype), segments)
    queries, keys, values, gates = (_cut(x.to(dtype), size) for x in (q, k, v, torch.stack([log_decay, rate], dim=-1)))
    rate = gates[..., 1:]
    between, since, until = _decays(gates[..., 0])
    overlap, scores = (torch.einsum("MBKCH,MBKDH->MBKCD", x, keys) for x in (keys, queries))
    overlap, scores, queries, keys = (torch.repeat_interleave(x, repeats, dim=2) for x in (overlap, scores, queries, keys))
    wanted = rate * torch.cat([values, keys * since[..., None]], dim=-1)
    # Only what is below the diagonal is read: the diagonal is taken for 1.
    system = rate * overlap * between
    solved = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
    if state is None:
        state = keys.new_zeros((batch, heads, k.shape[3], v_dim))
    state, before, written = state.to(dtype), [], []
    reads, writes = solved[..., v_dim:], keys * until[..., None]
    for m in range(len(solved)):
        before.append(state)
        written.append(solved[m, ..., :v_dim] - torch.einsum("BNCH,BNHV->BNCV", reads[m], state))
        added = torch.einsum("BNCH,BNCV->BNHV", writes[m], written[m])
        state = state * since[m, ..., -1, None, None] + added
    out = torch.einsum("MBNCH,MBNHV->MBNCV", queries * since[..., None], torch.stack(before))
    out = out + torch.einsum("MBNCD,MBNDV->MBNCV", scores * between, torch.stack(written))
    out = torch.permute(out, (1, 0, 3, 2, 4)).reshape(batch, -1, heads, v_dim)[:, :length] * k.shape[3] ** -0.5
    return (out if segments is None else torch.where((segments != 0)[:, :, None, None], out, 0.0)).to(v.dtype), state


def _cut(x: Float[Tensor, "B T N H"], size: int) -> Float[Tensor, "M B N C H"]:
    """M chunks of C tokens; zeros fill the last, which neither decay nor write."""
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % size))
    return torch.permute(padded.reshape(x.shape[0], -1, size, *x.shape[2:]), (1, 0, 3, 2, 4))


def _decays(
    log_decay: Float[Tensor, "M B N C"],
) -> tuple[Float[Tensor, "M B N C C"], Float[Tensor, "M B N C"], Float[Tensor, "M B N C"]]:
    """Decay from token j (last axis) to token i, from the chunk's beginning to i, and from j to the chunk's end.

    Differences of sums lose the small terms beside large ones (a decay of exp(-50) before one of exp(-1e-6)), so multiples of
    1/64, whose sums are exact, are added up apart from the rest.
    """
    bounded = torch.clamp(log_decay, min=FORGET)
    coarse = torch.round(bounded * 64) / 64
    coarse, fine = (torch.cumsum(part, dim=-1) for part in (coarse, bounded - coarse))
    between = (coarse[..., :, None] - coarse[..., None, :]) + (fine[..., :, None] - fine[..., None, :])
    until = (coarse[..., -1:] - coarse) + (fine[..., -1:] - fine)
    # The diagonal is 1 whatever the decays are: as a difference it would have gradients that cancel, but for their rounding.
    unit = torch.eye(log_decay.shape[-1], dtype=log_decay.dtype, device=log_decay.device)
    below = torch.tril(torch.ones_like(unit), -1) > 0
    return torch.exp(torch.where(below, between, FORGET)) + unit, torch.exp(coarse + fine), torch.exp(until)
