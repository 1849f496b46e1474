"""Which tokens may be drawn, and with what odds: temperature, then top-k, then top-p."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_transformer.ops.precision import at_least_float32


def filter_logits(
    logits: Float[Array, "B V"], temperature: float, top_k: int | None = None, top_p: float | None = None
) -> Float[Array, "B V"]:
    """Log-odds of every token, ``(logits - max) / temperature``, and ``-inf`` where top-k or top-p excludes it.

    Top-k keeps exactly k tokens (all of them if k > V); top-p then renormalises and keeps the fewest most likely tokens whose
    probabilities reach p, the one that crosses p included, so at least one; 1 keeps all. Of equal logits the lower id counts
    as the more likely. Temperature 0 keeps the most likely token alone. Computed in float32 at least.
    """
    logits = logits.astype(at_least_float32(logits.dtype))
    if temperature < 1e-30:  # 0, or close enough to become 0 in float32
        temperature, top_k = 1.0, 1
    if top_p == 1.0:
        top_p = None
    if top_k is None and top_p is None:
        # Without the maximum, a tiny temperature would overflow and softmax would give NaN.
        return (logits - jnp.max(logits, axis=-1, keepdims=True)) / temperature
    vocab_size = logits.shape[-1]
    values, ids = jax.lax.top_k(logits, vocab_size if top_k is None else min(top_k, vocab_size))
    values = (values - values[:, :1]) / temperature
    if top_p is not None:
        probabilities = jax.nn.softmax(values, axis=-1)
        more_likely = jnp.cumsum(probabilities, axis=-1) - probabilities
        values = jnp.where(more_likely < top_p, values, -jnp.inf)
    return jnp.put_along_axis(jnp.full_like(logits, -jnp.inf), ids, values, axis=-1, inplace=False)
