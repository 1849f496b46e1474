"""A mixture of experts in the work of the experts that are used: tokens sorted by expert, in blocks that have one each."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_transformer.ops.experts.dense import Experts, all_experts
from jax_transformer.ops.precision import at_least_float32, matmul_precision
from jax_transformer.ops.routing import expert_places

SMALLEST_BLOCK, LARGEST_BLOCK = 8, 128
"""Tokens of a block: smaller ones are slow to multiply, larger ones are padded for longer."""


class _Blocks(NamedTuple):
    """M blocks of one expert each, of which the first ``used`` have tokens and the others the expert ``E``, which is none.

    ``slots`` says which of the ``M * size`` rows a pair of token and expert has, ``M * size`` for one that was dropped;
    ``pairs`` says which of the ``n k`` pairs a row is of, ``n k`` for padding.
    """

    slots: Int[Array, "n k"]
    pairs: Int[Array, " rows"]
    owners: Int[Array, " M"]
    used: Int[Array, ""]


def grouped_experts(
    x: Float[Array, "n D"],
    chosen: Int[Array, "n k"],
    weights: Float[Array, "n k"],
    experts: Experts,
    activate: Callable[..., Any],
    *,
    block: int | None = None,
) -> Float[Array, "n D"]:
    """``dense_experts`` with ``token_choice_weights``, in time of ``n k`` rows and fewer than ``block`` more per expert used.

    The expert ``E`` is none. Rows are multiplied in blocks of ``block``; None is half of an even load, between 8 and 128, as a
    power of 2. Derivatives are those of reverse mode only.
    """
    (num_tokens, k), num_experts, wide = chosen.shape, experts.up.shape[0], at_least_float32(x.dtype)
    size = _block_size(num_tokens * k, num_experts) if block is None else block
    blocks = _blocks(chosen, num_experts, size)
    rows = _take(x, blocks.pairs // k, blocks.slots).reshape(-1, size, x.shape[1])
    outputs = experts.apply(rows, activate, partial(_linear, blocks.owners, blocks.used))
    outputs = _take(outputs.reshape(-1, x.shape[1]), blocks.slots, blocks.pairs[:, None])
    return jnp.sum(weights.astype(wide)[..., None] * outputs.astype(wide), axis=1).astype(x.dtype)


def chosen_tokens(
    x: Float[Array, "n D"],
    tokens: Int[Array, "E C"],
    weights: Float[Array, "E C"],
    experts: Experts,
    activate: Callable[..., Any],
) -> Float[Array, "n D"]:
    """``dense_experts`` with ``expert_choice_weights``, in time of ``E C`` rows. The token ``n`` is none."""
    wide = at_least_float32(x.dtype)
    outputs = all_experts(x.at[tokens].get(mode="fill", fill_value=0), experts, activate)
    added = weights.astype(wide)[..., None] * outputs.astype(wide)
    return jnp.zeros(x.shape, wide).at[tokens].add(added, mode="drop").astype(x.dtype)


def _block_size(pairs: int, num_experts: int) -> int:
    half = max(pairs // (2 * num_experts), 1)
    return min(max(1 << (half.bit_length() - 1), SMALLEST_BLOCK), LARGEST_BLOCK)


def _blocks(chosen: Int[Array, "n k"], num_experts: int, size: int) -> _Blocks:
    pairs, count = chosen.reshape(-1), chosen.size
    loads = jnp.zeros(num_experts, jnp.int32).at[pairs].add(1, mode="drop")
    blocks = (loads + size - 1) // size
    ends = jnp.cumsum(blocks, dtype=jnp.int32)
    # However the pairs are spread, only blocks of used experts have padding, and none is all padding.
    most = (count + min(num_experts, count) * (size - 1)) // size
    firsts = ((ends - blocks) * size).at[pairs].get(mode="clip")
    slots = jnp.where(pairs < num_experts, firsts + expert_places(pairs), most * size)
    rows = jnp.full(most * size, count, jnp.int32).at[slots].set(jnp.arange(count, dtype=jnp.int32), mode="drop")
    owners = jnp.searchsorted(ends, jnp.arange(most, dtype=jnp.int32), side="right")
    return _Blocks(slots.reshape(chosen.shape), rows, owners, ends[-1])


@jax.custom_vjp
def _take(x: Float[Array, "rows D"], index: Int[Array, "*S"], uses: Int[Array, "rows j"]) -> Float[Array, "*S D"]:
    """``x[index]``, 0 beyond its end; ``uses`` says where in the result each row is, so that the gradient is taken as well:
    adding to rows in any order is slow."""
    return x.at[index].get(mode="fill", fill_value=0)


def _take_forward(x: Array, index: Array, uses: Array) -> tuple[Array, Array]:
    return _take(x, index, uses), uses


def _take_backward(uses: Array, gradient: Array) -> tuple[Array, None, None]:
    flat = gradient.reshape(-1, gradient.shape[-1])
    taken = flat.at[uses].get(mode="fill", fill_value=0).astype(at_least_float32(flat.dtype))
    return jnp.sum(taken, axis=1).astype(flat.dtype), None, None


_take.defvjp(_take_forward, _take_backward)


def _linear(
    owners: Int[Array, " M"],
    used: Int[Array, ""],
    x: Float[Array, "M R D"],
    kernel: Float[Array, "E D F"],
    bias: Float[Array, "E F"] | None,
) -> Float[Array, "M R F"]:
    y = _multiply(x, kernel, owners, used)
    return y if bias is None else y + bias.at[owners].get(mode="fill", fill_value=0)[:, None, :]


@jax.custom_vjp
def _multiply(
    x: Float[Array, "M R D"], kernels: Float[Array, "E D F"], owners: Int[Array, " M"], used: Int[Array, ""]
) -> Float[Array, "M R F"]:
    """``x[m] kernels[owners[m]]`` for the first ``used`` blocks, zeros for the rest, without a copy of the kernels."""

    def step(m: Array, y: Array) -> Array:
        block = jnp.dot(_at(x, m), _at(kernels, owners[m]), precision=matmul_precision(x.dtype))
        return jax.lax.dynamic_update_index_in_dim(y, block, m, 0)

    return jax.lax.fori_loop(0, used, step, jnp.zeros((*x.shape[:2], kernels.shape[2]), x.dtype))


def _multiply_forward(x: Array, kernels: Array, owners: Array, used: Array) -> tuple[Array, tuple]:
    return _multiply(x, kernels, owners, used), (x, kernels, owners, used)


def _multiply_backward(saved: tuple, gradient: Array) -> tuple[Array, Array, None, None]:
    x, kernels, owners, used = saved
    precision, wide = matmul_precision(x.dtype), at_least_float32(x.dtype)

    def step(m: Array, so_far: tuple[Array, Array]) -> tuple[Array, Array]:
        (dx, dkernels), owner, dy = so_far, owners[m], _at(gradient, m)
        dblock = jnp.dot(dy, _at(kernels, owner).T, precision=precision)
        dkernel = jnp.dot(_at(x, m).T, dy, precision=precision, preferred_element_type=wide)
        dkernels = jax.lax.dynamic_update_index_in_dim(dkernels, _at(dkernels, owner) + dkernel, owner, 0)
        return jax.lax.dynamic_update_index_in_dim(dx, dblock, m, 0), dkernels

    dx, dkernels = jax.lax.fori_loop(0, used, step, (jnp.zeros_like(x), jnp.zeros(kernels.shape, wide)))
    return dx, dkernels.astype(kernels.dtype), None, None


_multiply.defvjp(_multiply_forward, _multiply_backward)


def _at(x: Array, index: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(x, index, keepdims=False)
