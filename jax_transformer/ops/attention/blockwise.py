"""Softmax attention by blocks of queries and keys: never all scores at once, neither forward nor backward.

Flash attention's algorithm (https://arxiv.org/abs/2205.14135) in plain loops: the softmax is taken while blocks of keys go by,
and the backward pass computes each block's probabilities anew from the saved logarithm of their sum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from jax_transformer.ops.mask import Mask
from jax_transformer.ops.position_bias import OffsetBias
from jax_transformer.ops.precision import at_least_float32, matmul_precision

Inputs = tuple[Array, Array, Array, Array | None, Any]
"""Queries, keys, values, sinks, and the parameters of the bias: what has gradients."""
Marks = tuple[Array, Array | None]
"""Positions and segments."""


@dataclass(frozen=True)
class _Form:
    """What is no array."""

    scale: float
    causal: bool
    sight: tuple[int | None, int, int | None]
    """Window, sink tokens and chunk."""
    softcap: float | None
    bias: Callable[..., Array] | None
    block: int


def blockwise_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K V"],
    mask: Mask,
    scale: float,
    *,
    window: int | None = None,
    sink_tokens: int = 0,
    chunk_size: int | None = None,
    softcap: float | None = None,
    bias: OffsetBias | None = None,
    sinks: Float[Array, " N"] | None = None,
    block: int = 256,
) -> Float[Array, "B T N V"]:
    """``softmax_attention`` of ``mask.allowed(window, sink_tokens, chunk_size)``, in memory of ``T + S`` rather than ``T * S``.

    Queries and keys are taken ``block`` at a time or a little less. Blocks of keys that no query of a block can see, as the
    bounds of their positions and segments tell, are skipped: half of them if causal, most of them behind a window or in other
    chunks. There are gradients to queries, keys, values, sinks and the parameters of the bias (these add up in their own
    dtype), once and in reverse mode only.
    """
    told = mask.q_segments is not None and mask.k_segments is not None
    segments = (mask.q_segments, mask.k_segments) if told else (None, None)
    function, parameters = (None, ()) if bias is None else (bias.function, bias.parameters)
    form = _Form(scale, mask.causal, (window, sink_tokens, chunk_size), softcap, function, block)
    return _attend(form, (q, k, v, sinks, parameters), ((mask.q_positions, segments[0]), (mask.k_positions, segments[1])))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(form: _Form, inputs: Inputs, marks: tuple[Marks, Marks]) -> Float[Array, "B T N V"]:
    return _forward(form, inputs, marks)[0]


def _forward(form: _Form, inputs: Inputs, marks: tuple[Marks, Marks]) -> tuple[Array, tuple]:
    """What is mixed, and what the backward pass needs: the inputs, the result and the log-sum-exp of every query's scores."""
    q, k, v, sinks, parameters = inputs
    q_marks, k_marks, order, counts = _plan(form, q, k, marks)
    keys = (_blocks(k, form.block), _blocks(v, form.block), k_marks)
    dtype, lowest = at_least_float32(q.dtype), jnp.finfo(at_least_float32(q.dtype)).min

    def rows(block: tuple) -> tuple[Array, Array]:
        own, own_marks, seen_by_own, count = block

        def step(n: Array, so_far: tuple) -> tuple:
            highest, total, mixed = so_far
            k, v, marks = _at(keys, seen_by_own[n])
            mask = _mask(form, own_marks, marks)
            seen = mask.allowed(*form.sight)[:, None]
            scores = jnp.where(seen, _shaped(form, mask, _products(own, k) * form.scale, parameters), lowest)
            higher = jnp.maximum(highest, jnp.max(scores, axis=-1))
            # A query that has seen no key yet has the lowest number as its highest score, and a difference of zero.
            weights = jnp.where(seen, jnp.exp(scores - higher[..., None]), 0.0)
            kept = jnp.exp(highest - higher)
            mixed = mixed * kept[..., None] + _mix(weights.astype(v.dtype), v)
            return higher, total * kept + jnp.sum(weights, axis=-1), mixed

        shape = own.shape[:-1]
        first = jnp.full(shape, lowest, dtype) if sinks is None else jnp.broadcast_to(sinks.astype(dtype)[None, :, None], shape)
        start = (first, jnp.full(shape, 0.0 if sinks is None else 1.0, dtype), jnp.zeros((*shape, v.shape[-1]), dtype))
        highest, total, mixed = jax.lax.fori_loop(0, count, step, start)
        total = jnp.where(total > 0, total, 1.0)
        return (mixed / total[..., None]).astype(v.dtype), highest + jnp.log(total)

    mixed, log_sums = jax.lax.map(rows, (_blocks(q, form.block), q_marks, order, counts))
    mixed = _joined(mixed, q.shape[1])
    return mixed, (inputs, marks, mixed, log_sums)


def _backward(form: _Form, saved: tuple, gradient: Float[Array, "B T N V"]) -> tuple[Inputs, None]:
    """Gradients of the inputs; masks have none."""
    (q, k, v, sinks, parameters), marks, mixed, log_sums = saved
    q_marks, k_marks, order, counts = _plan(form, q, k, marks)
    keys = (_blocks(k, form.block), _blocks(v, form.block), k_marks)
    gradients, dtype = _blocks(gradient, form.block), at_least_float32(q.dtype)
    means = jnp.sum(gradients.astype(dtype) * _blocks(mixed, form.block).astype(dtype), axis=-1)

    def rows(so_far: tuple, block: tuple) -> tuple[tuple, Array]:
        own, gradient, mean, log_sum, own_marks, seen_by_own, count = block

        def step(n: Array, so_far: tuple) -> tuple:
            dq, dk, dv, dparameters = so_far
            k, v, marks = _at(keys, seen_by_own[n])
            mask = _mask(form, own_marks, marks)
            scores, pull = jax.vjp(partial(_shaped, form, mask), _products(own, k) * form.scale, parameters)
            seen = mask.allowed(*form.sight)[:, None]
            weights = jnp.where(seen, jnp.exp(scores - log_sum[..., None]), 0.0)
            dproducts, more = pull(weights * (_products(gradient, v) - mean[..., None]))
            dproducts = (dproducts * form.scale).astype(q.dtype)
            dk = _added(dk, seen_by_own[n], _gathered(dproducts, own, k.shape[1]))
            dv = _added(dv, seen_by_own[n], _gathered(weights.astype(v.dtype), gradient, k.shape[1]))
            return dq + _mix(dproducts, k), dk, dv, jax.tree.map(jnp.add, dparameters, more)

        dq, *rest = jax.lax.fori_loop(0, count, step, (jnp.zeros(own.shape, dtype), *so_far))
        return tuple(rest), dq

    start = (*(jnp.zeros(x.shape, dtype) for x in keys[:2]), jax.tree.map(jnp.zeros_like, parameters))
    blocks = (_blocks(q, form.block), gradients, means, log_sums, q_marks, order, counts)
    (dk, dv, dparameters), dq = jax.lax.scan(rows, start, blocks)
    dq, dk, dv = (_joined(d, x.shape[1]).astype(x.dtype) for d, x in ((dq, q), (dk, k), (dv, v)))
    dsinks = None
    if sinks is not None:
        taken = jnp.exp(sinks.astype(dtype)[None, None, :, None] - log_sums)
        dsinks = -jnp.sum(taken * means, axis=(0, 1, 3)).astype(sinks.dtype)
    return (dq, dk, dv, dsinks, dparameters), None


_attend.defvjp(_forward, _backward)


def _plan(form: _Form, q: Array, k: Array, marks: tuple[Marks, Marks]) -> tuple[Marks, Marks, Array, Array]:
    """Marks by block; the blocks of keys in the order of each block of queries, first those it sees; how many these are."""
    untold = marks[0][1] is None and any(_size(x.shape[1], form.block)[1] for x in (q, k))

    def by_block(own: Marks, x: Array) -> Marks:
        segments = jnp.ones(x.shape[:2], jnp.int32) if untold else own[1]
        return _blocks(own[0], form.block), None if segments is None else _blocks(segments, form.block)

    q_marks, k_marks = by_block(marks[0], q), by_block(marks[1], k)
    live = _live(form, q_marks, k_marks)
    return q_marks, k_marks, jnp.argsort(~live, axis=1), jnp.sum(live, axis=1, dtype=jnp.int32)


def _live(form: _Form, q_marks: Marks, k_marks: Marks) -> Bool[Array, "q_blocks k_blocks"]:
    """Whether any query of a block may see any key of another, judged by the bounds of both."""
    (q_low, q_high), (k_low, k_high) = _bounds(q_marks[0], q_marks[1]), _bounds(k_marks[0], k_marks[1])
    q_low, q_high, k_low, k_high = q_low[:, None], q_high[:, None], k_low[None], k_high[None]
    live = k_low <= q_high if form.causal else jnp.ones_like(k_low <= q_high)
    window, sink_tokens, chunk_size = form.sight
    if window is not None:
        near = q_low < k_high + window if form.causal else (q_low <= k_high + window) & (k_low <= q_high + window)
        live = live & (near | (k_low < sink_tokens))
    if chunk_size is not None:
        live = live & (q_low // chunk_size <= k_high // chunk_size) & (k_low // chunk_size <= q_high // chunk_size)
    if q_marks[1] is not None and k_marks[1] is not None:
        (q_low, q_high), (k_low, k_high) = _bounds(q_marks[1], q_marks[1]), _bounds(k_marks[1], k_marks[1])
        live = live & (q_low[:, None] <= k_high[None]) & (k_low[None] <= q_high[:, None])
    return jnp.any(live, axis=-1)


def _bounds(values: Int[Array, "blocks #B size"], segments: Int[Array, "blocks B size"] | None) -> tuple[Array, Array]:
    """Lowest and highest value of each block and row, leaving out padding."""
    if segments is None:
        return jnp.min(values, axis=-1), jnp.max(values, axis=-1)
    limits, real = jnp.iinfo(values.dtype), segments != 0
    return jnp.min(jnp.where(real, values, limits.max), axis=-1), jnp.max(jnp.where(real, values, limits.min), axis=-1)


def _size(length: int, block: int) -> tuple[int, int]:
    """Tokens per block, all blocks being as long as one another, and how many are padding."""
    count = -(-length // block)
    size = -(-length // count)
    return size, count * size - length


def _blocks(x: Num[Array, "#B T *D"], block: int) -> Num[Array, "..."]:
    """Blocks first and tokens after heads: [blocks, B, size] or [blocks, B, heads, size, width], the last filled with zeros."""
    size, missing = _size(x.shape[1], block)
    padded = jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2))
    parts = jnp.moveaxis(padded.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)
    return parts if x.ndim == 2 else jnp.moveaxis(parts, 2, 3)


def _joined(blocks: Float[Array, "blocks B N size W"], length: int) -> Float[Array, "B T N W"]:
    """The way back."""
    count, batch, heads, size, width = blocks.shape
    return blocks.transpose(1, 0, 3, 2, 4).reshape(batch, count * size, heads, width)[:, :length]


def _at(blocks: Any, number: Int[Array, ""]) -> Any:
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, number, keepdims=False), blocks)


def _added(blocks: Float[Array, "blocks *D"], number: Int[Array, ""], x: Float[Array, "*D"]) -> Float[Array, "blocks *D"]:
    return jax.lax.dynamic_update_index_in_dim(blocks, _at(blocks, number) + x, number, 0)


def _mask(form: _Form, own: Marks, keys: Marks) -> Mask:
    return Mask(own[0], keys[0], own[1], keys[1], form.causal)


def _shaped(form: _Form, mask: Mask, scores: Float[Array, "B N T S"], parameters: Any) -> Float[Array, "B N T S"]:
    """Scores under the cap, with the bias."""
    if form.softcap is not None:
        scores = form.softcap * jnp.tanh(scores / form.softcap)
    return scores if form.bias is None else scores + form.bias(parameters, mask.offsets()).astype(scores.dtype)


def _products(q: Float[Array, "B N T H"], k: Float[Array, "B K S H"]) -> Float[Array, "B N T S"]:
    """``q k^T``. The query heads of a key head are rows of one matrix, so that keys are not repeated; the same below."""
    return _matmul("BKRH,BKSH->BKRS", _grouped(q, k.shape[1]), k).reshape(*q.shape[:3], -1)


def _mix(weights: Float[Array, "B N T S"], v: Float[Array, "B K S V"]) -> Float[Array, "B N T V"]:
    """``weights v``."""
    return _matmul("BKRS,BKSV->BKRV", _grouped(weights, v.shape[1]), v).reshape(*weights.shape[:3], -1)


def _gathered(weights: Float[Array, "B N T S"], x: Float[Array, "B N T H"], kv_heads: int) -> Float[Array, "B K S H"]:
    """``weights^T x``, summed over the query heads of a key head."""
    return _matmul("BKRS,BKRH->BKSH", _grouped(weights, kv_heads), _grouped(x, kv_heads))


def _grouped(x: Float[Array, "B N T W"], kv_heads: int) -> Float[Array, "B K R W"]:
    return x.reshape(x.shape[0], kv_heads, -1, x.shape[-1])


def _matmul(equation: str, x: Float[Array, "B K _ _"], y: Float[Array, "B K _ _"]) -> Float[Array, "B K _ _"]:
    """In the precision of the arguments, added up in float32 at least."""
    precision, wide = matmul_precision(x.dtype), at_least_float32(x.dtype)
    return jnp.einsum(equation, x, y, precision=precision, preferred_element_type=wide)
