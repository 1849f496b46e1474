"""The gated delta rule token by token, which defines it (Yang et al. 2024, https://arxiv.org/abs/2412.06464)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_transformer.ops.precision import at_least_float32, matmul_precision
from jax_transformer.ops.segments import segment_starts

FORGET = -1000.0
"""A log-decay that leaves nothing: its exponential is 0 in float64 too."""


def segment_gates(
    log_decay: Float[Array, "B T N"], beta: Float[Array, "B T N"], segments: Int[Array, "B T"] | None
) -> tuple[Float[Array, "B T N"], Float[Array, "B T N"]]:
    """The gates with segments in them: a start forgets everything before it, padding neither decays nor writes."""
    if segments is None:
        return log_decay, beta
    real = (segments != 0)[:, :, None]
    log_decay = jnp.where(segment_starts(segments)[:, :, None], FORGET, log_decay)
    return jnp.where(real, log_decay, 0.0), jnp.where(real, beta, 0.0)


def recurrent_delta_rule(
    q: Float[Array, "B T K H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T N V"],
    log_decay: Float[Array, "B T N"],
    beta: Float[Array, "B T N"],
    *,
    segments: Int[Array, "B T"] | None = None,
    state: Float[Array, "B N H V"] | None = None,
) -> tuple[Float[Array, "B T N V"], Float[Array, "B N H V"]]:
    """``S *= exp(log_decay); S += k (beta (v - S^T k))^T; o = S^T q / sqrt(H)`` at each token; the outputs and the last S.

    ``q`` and ``k`` come in normalised; value head ``n`` reads key head ``n // (N / K)``. ``log_decay <= 0``. ``state`` is what
    earlier tokens left, None zeros; everything is float32 at least. The state is emptied where a segment starts; padding
    (segment 0) leaves it alone and gets zeros.
    """
    dtype = at_least_float32(v.dtype)
    precision, repeats = matmul_precision(dtype), v.shape[2] // k.shape[2]
    log_decay, beta = segment_gates(log_decay.astype(dtype), beta.astype(dtype), segments)
    queries, keys = (jnp.repeat(x.astype(dtype), repeats, axis=2) for x in (q, k))
    queries = queries * k.shape[3] ** -0.5
    if state is None:
        state = jnp.zeros((v.shape[0], v.shape[2], k.shape[3], v.shape[3]), dtype)

    def step(state, token):
        query, key, value, decay, rate = token
        state = state * decay[..., None, None]
        known = jnp.einsum("BNHV,BNH->BNV", state, key, precision=precision)
        state = state + key[..., :, None] * (rate[..., None] * (value - known))[..., None, :]
        return state, jnp.einsum("BNHV,BNH->BNV", state, query, precision=precision)

    tokens = (queries, keys, v.astype(dtype), jnp.exp(log_decay), beta)
    state, out = jax.lax.scan(step, state.astype(dtype), jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), tokens))
    out = jnp.moveaxis(out, 0, 1)
    return (out if segments is None else jnp.where((segments != 0)[:, :, None, None], out, 0.0)).astype(v.dtype), state
