"""A mixture of experts in the work of its experts: one batched product for an even load, and pieces for what exceeds it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_transformer.ops.experts.dense import Experts, Weigh, all_experts, scaled
from jax_transformer.ops.experts.layout import Layout, Sizes, layout_of, sizes_of
from jax_transformer.ops.precision import at_least_float32


class _How(NamedTuple):
    """What is known before the numbers are."""

    sizes: Sizes
    activate: Callable[..., Any]
    weigh: Weigh


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
    """``dense_experts`` with ``token_choice_weights``, in time of ``n k`` rows for an even load and twice that for the worst.

    The first ``n k / E`` tokens of every expert are one batched product. What an expert has beyond them follows in blocks of
    ``block`` rows (None: see ``sizes_of``), the last of which is padded; if ``n k / E`` is below 8 all tokens are in blocks.
    The expert ``E`` is none. Derivatives are those of reverse mode only.
    """
    num_tokens, choices = chosen.shape
    sizes = sizes_of(num_tokens, choices, experts.up.shape[0], block)
    return _mixture(x, weights, experts, layout_of(chosen, sizes), _How(sizes, activate, weigh)).astype(x.dtype)


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
    added = _weighed(x.at[tokens].get(mode="fill", fill_value=0), weights, experts, activate, weigh)
    return jnp.zeros(x.shape, wide).at[tokens].add(added, mode="drop").astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _mixture(
    x: Float[Array, "n D"], weights: Float[Array, "n k"], experts: Experts, layout: Layout, how: _How
) -> Float[Array, "n D"]:
    """In float32 at least."""
    return _mixture_forward(x, weights, experts, layout, how)[0]


def _mixture_forward(x: Array, weights: Array, experts: Experts, layout: Layout, how: _How) -> tuple[Array, tuple]:
    y, pull = jax.vjp(partial(_shares, how, layout), x, weights, experts)
    pieces, flat = layout.pieces, weights.reshape(-1)

    def step(piece: Array, y: Array) -> Array:
        pairs, own = _pairs(layout, piece, how.sizes), _kernels(experts, pieces.owners[piece])
        tokens = pairs // how.sizes.choices

        def compute(count: int) -> Array:
            return _padded(_weighed(_at(x, tokens[:count]), _at(flat, pairs[:count]), own, how.activate, how.weigh), pairs.size)

        return y.at[tokens].add(_switch(pieces.lengths[piece], how.sizes, compute), mode="drop")

    return jax.lax.fori_loop(0, pieces.used, step, y), (x, weights, experts, layout, pull)


def _mixture_backward(how: _How, saved: tuple, gradient: Array) -> tuple[Array, Array, Experts, None]:
    """The networks of the pieces are computed again: of an even load they are few."""
    x, weights, experts, layout, pull = saved
    pieces, flat = layout.pieces, weights.reshape(-1)

    def step(piece: Array, so_far: tuple[Array, Array, Experts]) -> tuple[Array, Array, Experts]:
        owner, pairs = pieces.owners[piece], _pairs(layout, piece, how.sizes)
        own, tokens = _kernels(experts, owner), pairs // how.sizes.choices

        def compute(count: int) -> tuple[Array, Array, Experts]:
            given = _at(x, tokens[:count]), _at(flat, pairs[:count]), own
            of_x, of_weights, of_own = jax.vjp(partial(_weighed, activate=how.activate, weigh=how.weigh), *given)[1](
                _at(gradient, tokens[:count])
            )
            return _padded(of_x, pairs.size), _padded(of_weights, pairs.size), of_own

        of_x, of_weights, of_own = _switch(pieces.lengths[piece], how.sizes, compute)
        all_x, all_weights, all_own = so_far
        all_x = all_x.at[tokens].add(of_x.astype(all_x.dtype), mode="drop")
        all_weights = all_weights.at[pairs].add(of_weights.astype(all_weights.dtype), mode="drop")
        return all_x, all_weights, jax.tree.map(partial(_added, owner), all_own, of_own)

    of_x, of_weights, of_experts = pull(gradient)
    wide = jax.tree.map(lambda total: total.astype(at_least_float32(total.dtype)), (of_x, of_weights.reshape(-1), of_experts))
    of_x, of_weights, of_experts = jax.lax.fori_loop(0, pieces.used, step, wide)
    of_experts = jax.tree.map(lambda total, like: total.astype(like.dtype), of_experts, experts)
    return of_x.astype(x.dtype), of_weights.reshape(weights.shape).astype(weights.dtype), of_experts, None


_mixture.defvjp(_mixture_forward, _mixture_backward)


def _shares(
    how: _How, layout: Layout, x: Float[Array, "n D"], weights: Float[Array, "n k"], experts: Experts
) -> Float[Array, "n D"]:
    """What the rows of the shares add to every token."""
    wide, sizes = at_least_float32(x.dtype), how.sizes
    if sizes.share == 0:
        return jnp.zeros(x.shape, wide)
    rows = _take(x, layout.pairs // sizes.choices, layout.slots)
    if how.weigh == "input":
        rows = scaled(rows, _at(weights.reshape(-1), layout.pairs))
        weights = weights != 0
    outputs = all_experts(rows.reshape(sizes.experts, sizes.share, x.shape[1]), experts, how.activate).reshape(rows.shape)
    outputs = _take(outputs, layout.slots, layout.pairs[:, None])
    return jnp.sum(weights.astype(wide)[..., None] * outputs.astype(wide), axis=1)


def _weighed(
    rows: Float[Array, "*E C D"], weights: Float[Array, "*E C"], experts: Experts, activate: Callable[..., Any], weigh: Weigh
) -> Float[Array, "*E C D"]:
    """What the rows of every expert, or of one, add to their tokens."""
    wide = at_least_float32(rows.dtype)
    rows, factors = (rows, weights) if weigh == "output" else (scaled(rows, weights), weights != 0)
    return factors.astype(wide)[..., None] * all_experts(rows, experts, activate).astype(wide)


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


def _switch(length: Int[Array, ""], sizes: Sizes, compute: Callable[[int], Any]) -> Any:
    """``compute`` for the rows of ``length`` blocks."""
    return jax.lax.switch(length - 1, [partial(compute, blocks * sizes.block) for blocks in range(1, sizes.piece + 1)])


def _pairs(layout: Layout, piece: Int[Array, ""], sizes: Sizes) -> Int[Array, " C"]:
    """The pairs of a piece, as many as the longest one may have; none beyond its own, which is faster than adding 0."""
    pieces, size = layout.pieces, sizes.piece * sizes.block
    pairs = jax.lax.dynamic_slice_in_dim(pieces.pairs, pieces.first_rows[piece], size)
    return jnp.where(jnp.arange(size) < pieces.lengths[piece] * sizes.block, pairs, layout.slots.size)


def _padded(rows: Float[Array, "C *D"], count: int) -> Float[Array, "count *D"]:
    return jnp.pad(rows, ((0, count - rows.shape[0]), *((0, 0) for _ in rows.shape[1:])))


def _at(x: Float[Array, "n *D"], index: Int[Array, " C"]) -> Float[Array, "C *D"]:
    return x.at[index].get(mode="fill", fill_value=0)


def _kernels(experts: Experts, index: Int[Array, ""]) -> Experts:
    return jax.tree.map(lambda p: jax.lax.dynamic_index_in_dim(p, index, keepdims=False), experts)


def _added(index: Int[Array, ""], total: Float[Array, "E *P"], more: Float[Array, "*P"]) -> Float[Array, "E *P"]:
    """In place: adding by a scatter copies the whole."""
    more = more.astype(total.dtype) + jax.lax.dynamic_index_in_dim(total, index, keepdims=False)
    return jax.lax.dynamic_update_index_in_dim(total, more, index, 0)
