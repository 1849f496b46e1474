"""Which rows hold which pairs of token and expert: an equal share of rows for every expert, and pieces for what exceeds it."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from jax_transformer.ops.routing import expert_places

SMALLEST_BLOCK, LARGEST_BLOCK = 8, 32
"""Tokens of a block: smaller ones are slow to multiply, larger ones are padded for longer."""

MOST_BLOCKS = 8
"""Of a piece. Each number is a network of its own that is compiled."""

SMALLEST_SHARE = 8
"""An even load below this gives no shares: a few tokens shall read the kernels of their own experts only."""


class Sizes(NamedTuple):
    """What is known before the tokens are."""

    choices: int
    experts: int
    share: int
    """Rows of every expert, used or not."""
    block: int
    """In rows."""
    blocks: int
    """That are needed, however the pairs are spread."""
    piece: int
    """The largest, in blocks."""


class Pieces(NamedTuple):
    """Rows in blocks of one expert each, blocks of an expert in pieces that are computed at once, of which ``used`` exist.

    The rows end in a whole piece of padding.
    """

    pairs: Int[Array, " rows"]
    """Which of the ``n k`` pairs a row is of, ``n k`` for padding."""
    owners: Int[Array, " pieces"]
    """The expert of a piece."""
    first_rows: Int[Array, " pieces"]
    lengths: Int[Array, " pieces"]
    """In blocks."""
    used: Int[Array, ""]


class Layout(NamedTuple):
    """Rows of the shares, those of an expert in a row, and the pieces that hold what exceeds them."""

    slots: Int[Array, "n k"]
    """The row of a pair, the number of rows if it has none."""
    pairs: Int[Array, " rows"]
    """Which pair a row is of, ``n k`` if of none."""
    pieces: Pieces


def sizes_of(num_tokens: int, choices: int, num_experts: int, block: int | None) -> Sizes:
    """A block of None is a quarter of an even load, between 8 and 32, as a power of 2."""
    pairs = num_tokens * choices
    even = pairs // num_experts
    size = min(max(1 << (max(even // 4, 1).bit_length() - 1), SMALLEST_BLOCK), LARGEST_BLOCK) if block is None else block
    # Only blocks of used experts have padding, and none is all padding.
    blocks = (pairs + min(num_experts, pairs) * (size - 1)) // size
    return Sizes(choices, num_experts, even if even >= SMALLEST_SHARE else 0, size, blocks, min(blocks, MOST_BLOCKS))


def layout_of(chosen: Int[Array, "n k"], sizes: Sizes) -> Layout:
    """Of all pairs of tokens and the experts that they chose; the expert ``E`` is none."""
    pairs, shared = chosen.reshape(-1), sizes.experts * sizes.share
    earlier, exists = expert_places(pairs), pairs < sizes.experts
    fits = exists & (earlier < sizes.share)
    slots = jnp.where(fits, pairs * sizes.share + earlier, shared)

    loads = jnp.zeros(sizes.experts, jnp.int32).at[pairs].add(1, mode="drop")
    blocks = (jnp.maximum(loads - sizes.share, 0) + sizes.block - 1) // sizes.block
    ends = jnp.cumsum(blocks, dtype=jnp.int32)
    num_rows = (sizes.blocks + sizes.piece) * sizes.block
    beyond = ((ends - blocks) * sizes.block).at[pairs].get(mode="clip") + earlier - sizes.share
    rows = _holders(jnp.where(exists & ~fits, beyond, num_rows), num_rows)
    return Layout(slots.reshape(chosen.shape), _holders(slots, shared), _pieces(rows, blocks, ends, sizes))


def _holders(rows: Int[Array, " pairs"], num_rows: int) -> Int[Array, " rows"]:
    ids = jnp.arange(rows.size, dtype=jnp.int32)
    return jnp.full(num_rows, rows.size, jnp.int32).at[rows].set(ids, mode="drop")


def _pieces(rows: Int[Array, " rows"], blocks: Int[Array, " E"], ends: Int[Array, " E"], sizes: Sizes) -> Pieces:
    pieces = (blocks + sizes.piece - 1) // sizes.piece
    piece_ends = jnp.cumsum(pieces, dtype=jnp.int32)
    numbers = jnp.arange(min(sizes.experts, sizes.blocks) + sizes.blocks // sizes.piece, dtype=jnp.int32)
    owners = jnp.searchsorted(piece_ends, numbers, side="right")
    first, begins, length = (of.at[owners].get(mode="clip") for of in (piece_ends - pieces, ends - blocks, blocks))
    before = (numbers - first) * sizes.piece
    lengths = jnp.clip(length - before, 1, sizes.piece)
    return Pieces(rows, owners, (begins + before) * sizes.block, lengths, piece_ends[-1])
