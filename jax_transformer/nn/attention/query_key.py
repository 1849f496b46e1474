"""What happens to queries and keys between their projections and the scores."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer import config
from jax_transformer.nn.linear import Dims
from jax_transformer.nn.norm import build_norm
from jax_transformer.nn.params import Maker
from jax_transformer.ops.precision import at_least_float32


def build_head_norm(c: config.QkNorm | None, heads: Dims, head_dim: int, make: Maker) -> nnx.Module | None:
    """The norm of the queries or of the keys; ``heads`` is the logical axis of their heads and its size."""
    if c is None:
        return None
    full = {"norm": head_dim * next(iter(heads.values()))}
    scopes = {"head": {"head_dim": head_dim}, "own_heads": heads | {"head_dim": head_dim}, "full": full}
    return build_norm(c.norm, scopes[c.scope], make)


def norm_heads(norm: nnx.Module | None, x: Float[Array, "B T N H"], c: config.QkNorm | None) -> Float[Array, "B T N H"]:
    """Normalised queries or keys: each head by itself, or all heads as one vector; without a config, as they are."""
    if c is None or norm is None:
        return x
    return norm(x.reshape(*x.shape[:2], -1)).reshape(x.shape) if c.scope == "full" else norm(x)


def temper_queries(
    q: Float[Array, "B T N H"], positions: Int[Array, "#B T"], c: config.QueryTemperature
) -> Float[Array, "B T N H"]:
    """``q * (1 + beta * ln(1 + floor((position + offset) / original_length)))``, in float32 at least and cast back.

    Padding has negative positions, which count as 0: it must not become NaN.
    """
    dtype = at_least_float32(q.dtype)
    lengths = (jnp.maximum(positions, 0) + c.offset) // c.original_length
    factor = 1.0 + c.beta * jnp.log1p(lengths.astype(dtype))
    return (q.astype(dtype) * factor[:, :, None, None]).astype(q.dtype)
