"""The gated delta rule by chunks: the WY form (Yang et al. 2024, https://arxiv.org/abs/2406.06484), matmuls and one scan.

Inside a chunk, with ``G`` the sums of log-decays from its first token on, ``D_ij = exp(G_i - G_j)`` for ``i >= j`` and
``L = tril(diag(beta) K K^T * D, -1)``, the values that tokens write are ``U = (I + L)^-1 diag(beta) (V - diag(exp(G)) K S)``.
Each chunk is computed in one go, and again in the backward pass: what it needs then stays in the cache, whatever the length.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_transformer.ops.delta_rule.recurrent import FORGET, segment_gates
from jax_transformer.ops.precision import at_least_float32, matmul_precision

SMALLEST_BLOCK = 16
"""Rows that the inverse takes one by one; larger blocks are put together by matmuls."""


def chunked_delta_rule(
    q: Float[Array, "B T K H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T N V"],
    log_decay: Float[Array, "B T N"],
    beta: Float[Array, "B T N"],
    *,
    segments: Int[Array, "B T"] | None = None,
    state: Float[Array, "B N H V"] | None = None,
    chunk: int = 64,
) -> tuple[Float[Array, "B T N V"], Float[Array, "B N H V"]]:
    """What ``recurrent_delta_rule`` computes, as matmuls over chunks of ``chunk`` tokens."""
    (batch, length, heads, v_dim), dtype = v.shape, at_least_float32(v.dtype)
    size = min(chunk, length)
    log_decay, rate = segment_gates(log_decay.astype(dtype), beta.astype(dtype), segments)
    chunks = [_cut(x.astype(dtype), size) for x in (q, k, v, jnp.stack([log_decay, rate], axis=-1))]
    if state is None:
        state = jnp.zeros((batch, heads, k.shape[3], v_dim), dtype)

    state, out = jax.lax.scan(jax.checkpoint(_step), state.astype(dtype), chunks)
    out = jnp.transpose(out, (1, 0, 3, 2, 4)).reshape(batch, -1, heads, v_dim)[:, :length] * k.shape[3] ** -0.5
    return (out if segments is None else jnp.where((segments != 0)[:, :, None, None], out, 0.0)).astype(v.dtype), state


def _step(state: Float[Array, "B N H V"], chunk: list[Array]) -> tuple[Float[Array, "B N H V"], Float[Array, "B N C V"]]:
    """Queries, keys, values and gates of one chunk: the state after it, and what its queries read."""
    (queries, keys, values, gates), precision = chunk, matmul_precision(state.dtype)
    rate, repeats = gates[..., 1:], state.shape[1] // chunk[0].shape[1]
    between, since, until = _decays(gates[..., 0])
    overlap, scores = (jnp.einsum("BKCH,BKDH->BKCD", x, keys, precision=precision) for x in (keys, queries))
    overlap, scores, queries, keys = (jnp.repeat(x, repeats, axis=1) for x in (overlap, scores, queries, keys))
    known = since[..., None] * jnp.einsum("BNCH,BNHV->BNCV", keys, state, precision=precision)
    inverse = _inverse(rate * overlap * between)
    written = jnp.einsum("BNCD,BNDV->BNCV", inverse, rate * (values - known), precision=precision)
    out = jnp.einsum("BNCH,BNHV->BNCV", queries * since[..., None], state, precision=precision)
    out = out + jnp.einsum("BNCD,BNDV->BNCV", scores * between, written, precision=precision)
    added = jnp.einsum("BNCH,BNCV->BNHV", keys * until[..., None], written, precision=precision)
    return state * since[..., -1, None, None] + added, out


def _cut(x: Float[Array, "B T N H"], size: int) -> Float[Array, "M B N C H"]:
    """M chunks of C tokens; zeros fill the last, which neither decay nor write."""
    padded = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size), (0, 0), (0, 0)))
    return jnp.transpose(padded.reshape(x.shape[0], -1, size, *x.shape[2:]), (1, 0, 3, 2, 4))


def _decays(
    log_decay: Float[Array, "B N C"],
) -> tuple[Float[Array, "B N C C"], Float[Array, "B N C"], Float[Array, "B N C"]]:
    """Decay from token j (last axis) to token i, from the chunk's beginning to i, and from j to the chunk's end.

    Differences of sums lose the small terms beside large ones (a decay of exp(-50) before one of exp(-1e-6)), so multiples of
    1/64, whose sums are exact, are added up apart from the rest.
    """
    bounded = jnp.maximum(log_decay, FORGET)
    coarse = jnp.round(bounded * 64) / 64
    coarse, fine = (jnp.cumsum(part, axis=-1) for part in (coarse, bounded - coarse))
    between = (coarse[..., :, None] - coarse[..., None, :]) + (fine[..., :, None] - fine[..., None, :])
    until = (coarse[..., -1:] - coarse) + (fine[..., -1:] - fine)
    size, around = log_decay.shape[-1], (None,) * (log_decay.ndim - 1)
    # The diagonal is 1 whatever the decays are: as a difference it would have gradients that cancel, but for their rounding.
    below = jnp.exp(jnp.where(jnp.tri(size, k=-1, dtype=bool)[around], between, FORGET))
    return below + jnp.eye(size, dtype=below.dtype)[around], jnp.exp(coarse + fine), jnp.exp(until)


@jax.custom_jvp
def _inverse(lower: Float[Array, "*B C C"]) -> Float[Array, "*B C C"]:
    """``(I + L)^-1`` for the ``L`` below the diagonal, which is all that is read: row by row, all blocks of 16 on the diagonal
    at once, and then two neighbouring blocks at a time become one,

        [A 0; B C]^-1 = [A^-1 0; -C^-1 B A^-1 C^-1].
    """
    (*batch, length, _), precision, size = lower.shape, matmul_precision(lower.dtype), SMALLEST_BLOCK
    full = size << (-(-length // size) - 1).bit_length()
    lower = jnp.pad(lower, [(0, 0)] * len(batch) + [(0, full - length)] * 2)

    def diagonal(size: int) -> Array:
        blocks = lower.reshape(*batch, full // size, size, full // size, size)
        return jnp.moveaxis(jnp.diagonal(blocks, axis1=-4, axis2=-2), -1, -3)

    rows, unit = diagonal(size), jnp.eye(size, dtype=lower.dtype)

    def row(i: Array, inverse: Array) -> Array:
        own = jax.lax.dynamic_index_in_dim(rows, i, -2, keepdims=False)
        known = jnp.einsum("...D,...DE->...E", own, inverse, precision=precision)
        return inverse.at[..., i, :].set(unit[i].reshape((1,) * (known.ndim - 1) + (-1,)) - known)

    inverse = jax.lax.fori_loop(0, size, row, jnp.zeros_like(rows))
    while size < full:
        first, second, between = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :], diagonal(2 * size)[..., size:, :size]
        below = -jnp.matmul(second, jnp.matmul(between, first, precision=precision), precision=precision)
        inverse = jnp.block([[first, jnp.zeros_like(below)], [below, second]])
        size *= 2
    return inverse[..., 0, :length, :length]


@_inverse.defjvp
def _inverse_jvp(given: tuple[Array], moved: tuple[Array]) -> tuple[Array, Array]:
    inverse, precision = _inverse(*given), matmul_precision(given[0].dtype)
    return inverse, -jnp.matmul(jnp.matmul(inverse, jnp.tril(moved[0], -1), precision=precision), inverse, precision=precision)
