"""The language-modelling loss."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_reference.ops.precision import at_least_float32


def next_token_weights(segments: Int[Tensor, "B length"]) -> Float[Tensor, "B T"]:
    """1 where a token and its successor belong to the same segment and neither is padding, else 0."""
    current, following = segments[:, :-1], segments[:, 1:]
    return ((current == following) & (following != 0)).to(torch.float32)


def cross_entropy(
    logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"], weights: Float[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """``sum(weights * (logsumexp(logits) - logits[target]))`` in nats, in float32 at least.

    A sum and not a mean: micro-batches and processes with different numbers of real tokens then add up exactly.
    """
    wide = logits.to(at_least_float32(logits.dtype))
    target_logits = torch.gather(wide, -1, targets[..., None].to(torch.int64))[..., 0]
    losses = torch.logsumexp(wide, dim=-1) - target_logits
    return torch.sum(losses * weights.to(wide.dtype))
