"""A mixture of experts by JAX's grouped matrix multiplication for TPUs (https://arxiv.org/abs/2211.15841)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_transformer.config.errors import ConfigError
from jax_transformer.ops.experts.dense import Experts, Weigh, scaled
from jax_transformer.ops.precision import at_least_float32

TILE = 128
"""Rows, columns and depth of the products that the kernel is made of."""


def megablox_experts(
    x: Float[Array, "n D"],
    chosen: Int[Array, "n k"],
    weights: Float[Array, "n k"],
    experts: Experts,
    activate: Callable[..., Any],
    *,
    weigh: Weigh = "output",
    interpret: bool = False,
) -> Float[Array, "n D"]:
    """``dense_experts`` with ``token_choice_weights``: rows sorted by expert, and one kernel over all of them.

    The expert ``E`` is none. ``interpret`` runs the kernel slowly, on any device; otherwise it needs a TPU, or raises
    ConfigError.
    """
    if not interpret and jax.default_backend() != "tpu":
        raise ConfigError(
            f"implementation=megablox is a kernel for TPUs, but the devices are of kind {jax.default_backend()}: use auto"
        )
    (num_tokens, k), num_experts, wide = chosen.shape, experts.up.shape[0], at_least_float32(x.dtype)
    pairs = jnp.pad(chosen.reshape(-1), (0, -num_tokens * k % TILE), constant_values=num_experts)
    order = jnp.argsort(pairs, stable=True)
    # What is dropped or padding is sorted last, and given to the last expert: the kernel leaves rows of no group unwritten.
    owners = jnp.minimum(pairs[order], num_experts - 1)
    sizes = jnp.bincount(owners, length=num_experts).astype(jnp.int32)
    rows = x.at[order // k].get(mode="fill", fill_value=0)
    if weigh == "input":
        rows = scaled(rows, weights.reshape(-1).at[order].get(mode="fill", fill_value=0))
        weights = weights != 0
    outputs = experts.apply(rows, activate, partial(_linear, owners, sizes, interpret))
    slots = jnp.argsort(order)[: num_tokens * k].reshape(num_tokens, k)
    kept = jnp.where(chosen < num_experts, weights.astype(wide), 0.0)
    return jnp.sum(kept[..., None] * outputs[slots].astype(wide), axis=1).astype(x.dtype)


def _linear(
    owners: Int[Array, " rows"],
    sizes: Int[Array, " E"],
    interpret: bool,
    x: Float[Array, "rows D"],
    kernel: Float[Array, "E D F"],
    bias: Float[Array, "E F"] | None,
) -> Float[Array, "rows F"]:
    # Here, not above: a slow import of what only TPUs need.
    from jax.experimental.pallas.ops.tpu.megablox import gmm

    y = gmm(x, kernel, sizes, x.dtype, (TILE, TILE, TILE), interpret=interpret)
    # Rows of an expert are many, and the gradient of its bias is their sum.
    wide = at_least_float32(x.dtype)
    return y if bias is None else (y + bias.astype(wide)[owners]).astype(x.dtype)
