"""What keeps the experts of a mixture equally busy: terms of the loss, before any coefficient, and the choice bias."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torch_reference.ops.precision import at_least_float32


class Usage(NamedTuple):
    """How the experts of one layer were used by a batch: what its loss terms are, before any coefficient."""

    load_balance: Float[Tensor, ""]
    router_z: Float[Tensor, ""]
    counts: Int[Tensor, " E"]
    """Choices of each expert by real tokens, or tokens that it took itself."""


def expert_counts(
    experts: Int[Tensor, "*B k"], num_experts: int, *, real: Bool[Tensor, "*B"] | None = None
) -> Int[Tensor, " E"]:
    """How many choices of the real tokens each expert has, whether it had a place for them or not.

    They add up over micro-batches and devices.
    """
    chosen = experts[..., None] == torch.arange(num_experts, device=experts.device)
    if real is not None:
        chosen = chosen & real[..., None, None]
    return torch.sum(chosen.reshape(-1, num_experts), dim=0)


def expert_load(counts: Int[Tensor, " E"]) -> Float[Tensor, " E"]:
    """The fraction of all choices that each expert has, in float32: sums to 1, or is zeros where there are none."""
    return counts.to(torch.float32) / torch.clamp(torch.sum(counts), min=1).to(torch.float32)


def load_balance(
    counts: Int[Tensor, " E"], probabilities: Float[Tensor, "*B E"], *, real: Bool[Tensor, "*B"] | None = None
) -> Float[Tensor, ""]:
    """``E sum_e f_e P_e`` of the fractions f of the choices and the mean probabilities P of real tokens (Fedus et al. 2021,
    https://arxiv.org/abs/2101.03961): 1 where all experts are equally busy, whatever k; 0 without a real token.

    That of transformers is k times this: its f sum to k.
    """
    num_experts = probabilities.shape[-1]
    wide = probabilities.to(at_least_float32(probabilities.dtype)).reshape(-1, num_experts)
    total = torch.sum(counts.to(wide.dtype) * _mean(wide, real))
    return num_experts * total / torch.clamp(torch.sum(counts), min=1).to(wide.dtype)


def router_z(logits: Float[Tensor, "*B E"], *, real: Bool[Tensor, "*B"] | None = None) -> Float[Tensor, ""]:
    """``mean(logsumexp(logits)^2)`` over real tokens, which keeps logits small (Zoph et al. 2022,
    https://arxiv.org/abs/2202.08906); 0 without a real token."""
    wide = logits.to(at_least_float32(logits.dtype))
    return _mean(torch.square(torch.logsumexp(wide, dim=-1)).reshape(-1), real)


def balanced_bias(bias: Float[Tensor, " E"], counts: Int[Tensor, " E"], rate: float) -> Float[Tensor, " E"]:
    """The choice bias after a step: ``rate`` more for experts with fewer choices than the mean, as much less for those with
    more (Wang et al. 2024, https://arxiv.org/abs/2408.15664)."""
    # In whole numbers: the sign of a rounding error would be a step as large as any other.
    total = torch.sum(counts)
    mean, rest = total // counts.numel(), total % counts.numel()
    missing = torch.where(counts == mean, torch.sign(rest), torch.sign(mean - counts))
    return bias + rate * missing.to(bias.dtype)


def _mean(x: Float[Tensor, "n *E"], real: Bool[Tensor, "*B"] | None) -> Float[Tensor, "*E"]:
    """Over the real tokens."""
    if real is None:
        return torch.mean(x, dim=0)
    flat = real.reshape(-1)
    kept = torch.where(flat.reshape(-1, *(1,) * (x.ndim - 1)), x, 0.0)
    return torch.sum(kept, dim=0) / torch.clamp(torch.sum(flat), min=1).to(x.dtype)
