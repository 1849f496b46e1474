"""How a branch joins the residual stream."""

from jaxtyping import Float
from torch import Tensor

from torch_reference.ops.dropout import Noise, drop_path, dropout


def add_branch(
    x: Float[Tensor, "B T D"],
    branch: Float[Tensor, "B T D"],
    rates: tuple[float, float | None],
    noise: Noise | None,
) -> Float[Tensor, "B T D"]:
    """``x + drop_path(dropout(branch))`` with ``rates = (dropout, drop_path)``."""
    if noise is None:
        return x + branch
    branch = dropout(branch, rates[0], noise.fold(0))
    return x + drop_path(branch, rates[1], noise.fold(1))
