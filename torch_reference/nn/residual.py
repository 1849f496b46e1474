"""How a branch joins the residual stream."""

from jaxtyping import Float
from torch import Tensor

from torch_reference.ops.dropout import Noise, drop_path, dropout
from torch_reference.ops.precision import at_least_float32


def add_branch(
    x: Float[Tensor, "B T D"],
    branch: Float[Tensor, "B T D"],
    rates: tuple[float, float | None],
    noise: Noise | None,
    scale: float = 1.0,
) -> Float[Tensor, "B T D"]:
    """``x + drop_path(dropout(scale * branch))`` with ``rates = (dropout, drop_path)``; the product is rounded once."""
    if scale != 1.0:
        branch = (branch.to(at_least_float32(branch.dtype)) * scale).to(branch.dtype)
    if noise is None:
        return x + branch
    branch = dropout(branch, rates[0], noise.fold(0))
    return x + drop_path(branch, rates[1], noise.fold(1))
