"""Drawing the next token of every row."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_transformer.config import Sampling
from jax_transformer.ops.sampling import filter_logits


def next_tokens(
    logits: Float[Array, "B V"], settings: Sampling, seed: int | Int[Array, ""], step: int | Int[Array, ""]
) -> Int[Array, "B"]:
    """One token per row: the most likely one at temperature 0 (the lowest id of equals), else a draw from the filtered odds.

    Row ``b`` draws with ``fold_in(fold_in(key(seed), b), step)``: what a row gets depends on its index and on nothing else of
    the batch. ``seed`` stands apart from ``settings`` so that compiled code serves every seed.
    """
    if settings.temperature == 0.0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    row_keys = fold(jax.random.key(seed), jnp.arange(logits.shape[0]))
    keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys, step)
    odds = filter_logits(logits, settings.temperature, settings.top_k, settings.top_p)
    return jax.vmap(jax.random.categorical)(keys, odds).astype(jnp.int32)
