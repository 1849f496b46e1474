"""How a branch joins the residual stream."""

from jaxtyping import Array, Float

from jax_transformer.ops.dropout import Noise, drop_path, dropout


def add_branch(
    x: Float[Array, "B T D"],
    branch: Float[Array, "B T D"],
    rates: tuple[float, Float[Array, ""] | None],
    noise: Noise | None,
) -> Float[Array, "B T D"]:
    """``x + drop_path(dropout(branch))`` with ``rates = (dropout, drop_path)``."""
    if noise is None:
        return x + branch
    branch = dropout(branch, rates[0], noise.fold(0))
    return x + drop_path(branch, rates[1], noise.fold(1))
