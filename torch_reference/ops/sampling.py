"""Which tokens may be drawn, and with what odds: temperature, then top-k, then top-p."""

import torch
from jaxtyping import Float
from torch import Tensor

from torch_reference.ops.precision import at_least_float32


def filter_logits(
    logits: Float[Tensor, "B V"], temperature: float, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, "B V"]:
    """Log-odds of every token, ``(logits - max) / temperature``, and ``-inf`` where top-k or top-p excludes it.

    Top-k keeps exactly k tokens (all of them if k > V); top-p then renormalises and keeps the fewest most likely tokens whose
    probabilities reach p, the one that crosses p included, so at least one; 1 keeps all. Of equal logits the lower id counts
    as the more likely. Temperature 0 keeps the most likely token alone. Computed in float32 at least.
    """
    logits = logits.to(at_least_float32(logits.dtype))
    if temperature < 1e-30:  # 0, or close enough to become 0 in float32
        temperature, top_k = 1.0, 1
    if top_p == 1.0:
        top_p = None
    if top_k is None and top_p is None:
        # Without the maximum, a tiny temperature would overflow and softmax would give NaN.
        return (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    values, ids = logits.sort(dim=-1, descending=True, stable=True)  # torch.topk orders equal values as it likes
    values, ids = values[:, :top_k], ids[:, :top_k]
    values = (values - values[:, :1]) / temperature
    if top_p is not None:
        probabilities = values.softmax(dim=-1)
        more_likely = probabilities.cumsum(dim=-1) - probabilities
        values = values.masked_fill(more_likely >= top_p, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(-1, ids, values)
