"""A mixture of experts in the work of the experts that are used: tokens sorted by expert, in blocks that have one each."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_transformer.ops.experts.dense import Experts, Weigh, all_experts, scaled
from jax_transformer.ops.precision import at_least_float32, matmul_precision
from jax_transformer.ops.routing import expert_places

SMALLEST_BLOCK, LARGEST_BLOCK = 8, 128
"""Tokens of a block: smaller ones are slow to multiply, larger ones are padded for longer."""

MOST_BLOCKS = 8
"""Of a piece. Each number is a product of its own that is compiled; twice an even load is one piece."""


class _Sizes(NamedTuple):
    block: int
    """In rows."""
    blocks: int
    """That are needed, however the pairs are spread."""
    piece: int
    """The largest, in blocks."""


class _Pieces(NamedTuple):
    """Rows in blocks of one expert each, blocks of an expert in pieces that are multiplied at once, of which ``used`` exist.

    ``slots`` says which row a pair of token and expert has, the number of rows for one that was dropped; ``pairs`` says
    which of the ``n k`` pairs a row is of, ``n k`` for padding. The rows end in a whole piece of padding.
    """

    slots: Int[Array, "n k"]
    pairs: Int[Array, " rows"]
    block_owners: Int[Array, " blocks"]
    """The expert of a block, ``E`` if it has no tokens."""
    owners: Int[Array, " pieces"]
    first_rows: Int[Array, " pieces"]
    lengths: Int[Array, " pieces"]
    """In blocks."""
    used: Int[Array, ""]


def grouped_experts(
    x: Float[Array, "n D"],
    chosen: Int[Array, "n k"],
    weights: Float[Array, "n k"],
    experts: Experts,
    activate: Callable[..., Any],
    *,
    weigh: Weigh = "output",
    block: int | None = None,
) -> Float[Array, "n D"]:
    """``dense_experts`` with ``token_choice_weights``, in time of ``n k`` rows and fewer than ``block`` more per expert used.

    The expert ``E`` is none. The rows of an expert are padded to blocks of ``block``; None is a quarter of an even load,
    between 8 and 128, as a power of 2. Derivatives are those of reverse mode only.
    """
    (num_tokens, k), num_experts, wide = chosen.shape, experts.up.shape[0], at_least_float32(x.dtype)
    sizes = _sizes(num_tokens * k, num_experts, block)
    pieces = _pieces(chosen, num_experts, sizes)
    rows = _take(x, pieces.pairs // k, pieces.slots)
    if weigh == "input":
        rows = scaled(rows, weights.reshape(-1).at[pieces.pairs].get(mode="fill", fill_value=0))
        weights = weights != 0
    outputs = experts.apply(rows, activate, partial(_linear, pieces, sizes))
    outputs = _take(outputs, pieces.slots, pieces.pairs[:, None])
    return jnp.sum(weights.astype(wide)[..., None] * outputs.astype(wide), axis=1).astype(x.dtype)


def chosen_tokens(
    x: Float[Array, "n D"],
    tokens: Int[Array, "E C"],
    weights: Float[Array, "E C"],
    experts: Experts,
    activate: Callable[..., Any],
    *,
    weigh: Weigh = "output",
) -> Float[Array, "n D"]:
    """``dense_experts`` with ``expert_choice_weights``, in time of ``E C`` rows. The token ``n`` is none."""
    wide = at_least_float32(x.dtype)
    inputs = x.at[tokens].get(mode="fill", fill_value=0)
    inputs, factors = (inputs, weights) if weigh == "output" else (scaled(inputs, weights), weights != 0)
    outputs = all_experts(inputs, experts, activate)
    added = factors.astype(wide)[..., None] * outputs.astype(wide)
    return jnp.zeros(x.shape, wide).at[tokens].add(added, mode="drop").astype(x.dtype)


def _sizes(pairs: int, num_experts: int, block: int | None) -> _Sizes:
    quarter = max(pairs // (4 * num_experts), 1)
    size = min(max(1 << (quarter.bit_length() - 1), SMALLEST_BLOCK), LARGEST_BLOCK) if block is None else block
    # Only blocks of used experts have padding, and none is all padding.
    blocks = (pairs + min(num_experts, pairs) * (size - 1)) // size
    return _Sizes(size, blocks, min(blocks, MOST_BLOCKS))


def _pieces(chosen: Int[Array, "n k"], num_experts: int, sizes: _Sizes) -> _Pieces:
    pairs, count, size = chosen.reshape(-1), chosen.size, sizes.block
    loads = jnp.zeros(num_experts, jnp.int32).at[pairs].add(1, mode="drop")
    blocks = (loads + size - 1) // size
    ends = jnp.cumsum(blocks, dtype=jnp.int32)
    num_blocks = sizes.blocks + sizes.piece
    num_rows = num_blocks * size
    firsts = ((ends - blocks) * size).at[pairs].get(mode="clip")
    slots = jnp.where(pairs < num_experts, firsts + expert_places(pairs), num_rows)
    rows = jnp.full(num_rows, count, jnp.int32).at[slots].set(jnp.arange(count, dtype=jnp.int32), mode="drop")
    block_owners = jnp.searchsorted(ends, jnp.arange(num_blocks, dtype=jnp.int32), side="right")

    pieces = (blocks + sizes.piece - 1) // sizes.piece
    piece_ends = jnp.cumsum(pieces, dtype=jnp.int32)
    numbers = jnp.arange(min(num_experts, count) + sizes.blocks // sizes.piece, dtype=jnp.int32)
    owners = jnp.searchsorted(piece_ends, numbers, side="right")
    first, begins, length = (of.at[owners].get(mode="clip") for of in (piece_ends - pieces, ends - blocks, blocks))
    before = (numbers - first) * sizes.piece
    lengths = jnp.clip(length - before, 1, sizes.piece)
    return _Pieces(slots.reshape(chosen.shape), rows, block_owners, owners, (begins + before) * size, lengths, piece_ends[-1])


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
    pieces: _Pieces, sizes: _Sizes, x: Float[Array, "rows D"], kernel: Float[Array, "E D F"], bias: Float[Array, "E F"] | None
) -> Float[Array, "rows F"]:
    y = _multiply(x, kernel, pieces, sizes)
    if bias is None:
        return y
    # Rows of an expert are many, and the gradient of its bias is their sum.
    blocks = bias.astype(at_least_float32(x.dtype)).at[pieces.block_owners].get(mode="fill", fill_value=0)
    return (y + jnp.repeat(blocks, sizes.block, axis=0)).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _multiply(
    x: Float[Array, "rows D"], kernels: Float[Array, "E D F"], pieces: _Pieces, sizes: _Sizes
) -> Float[Array, "rows F"]:
    return _products(x, kernels, pieces, sizes, 0)


def _products(x: Array, kernels: Array, pieces: _Pieces, sizes: _Sizes, axis: int) -> Array:
    """Each row of the used pieces by its expert's kernel, summed over that ``axis`` of the kernel; zeros for the rest.

    Neither copies nor transposes the kernels, which are more than the rows.
    """

    def step(piece: Array, y: Array) -> Array:
        first, kernel = pieces.first_rows[piece], _at(kernels, pieces.owners[piece])

        def product(rows: int) -> Array:
            block = jnp.dot(_rows(x, first, rows), kernel.T if axis else kernel, precision=matmul_precision(x.dtype))
            return jnp.pad(block, ((0, sizes.piece * sizes.block - rows), (0, 0)))

        # What is written beyond the piece is written again by those that follow, or is padding.
        return jax.lax.dynamic_update_slice_in_dim(y, _switch(pieces.lengths[piece], sizes, product), first, 0)

    return jax.lax.fori_loop(0, pieces.used, step, jnp.zeros((x.shape[0], kernels.shape[2 - axis]), x.dtype))


def _multiply_forward(x: Array, kernels: Array, pieces: _Pieces, sizes: _Sizes) -> tuple[Array, tuple]:
    return _multiply(x, kernels, pieces, sizes), (x, kernels, pieces)


def _multiply_backward(sizes: _Sizes, saved: tuple, gradient: Array) -> tuple[Array, Array, None]:
    x, kernels, pieces = saved
    wide = at_least_float32(x.dtype)

    def step(piece: Array, so_far: Array) -> Array:
        first, owner = pieces.first_rows[piece], pieces.owners[piece]

        def product(rows: int) -> Array:
            left, right = _rows(x, first, rows).T, _rows(gradient, first, rows)
            return jnp.dot(left, right, precision=matmul_precision(x.dtype), preferred_element_type=wide)

        added = _switch(pieces.lengths[piece], sizes, product)
        return jax.lax.dynamic_update_index_in_dim(so_far, _at(so_far, owner) + added, owner, 0)

    dkernels = jax.lax.fori_loop(0, pieces.used, step, jnp.zeros(kernels.shape, wide))
    return _products(gradient, kernels, pieces, sizes, 1), dkernels.astype(kernels.dtype), None


_multiply.defvjp(_multiply_forward, _multiply_backward)


def _switch(length: Int[Array, ""], sizes: _Sizes, product: Callable[[int], Array]) -> Array:
    """``product`` of the rows of ``length`` blocks."""
    return jax.lax.switch(length - 1, [partial(product, blocks * sizes.block) for blocks in range(1, sizes.piece + 1)])


def _at(x: Array, index: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(x, index, keepdims=False)


def _rows(x: Array, first: Array, count: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(x, first, count)
