"""The short causal convolution before the delta rule: each channel over its own last few columns, then SiLU."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_transformer.ops.precision import at_least_float32
from jax_transformer.ops.segments import segment_runs


def short_conv(
    x: Float[Array, "B T C"],
    weight: Float[Array, "C W"],
    *,
    segments: Int[Array, "B T"] | None = None,
    state: Float[Array, "B P C"] | None = None,
) -> tuple[Float[Array, "B T C"], Float[Array, "B P C"]]:
    """``silu(sum_j weight[:, W - 1 - j] * x_{t - j})`` for ``j < W`` and the last ``P = W - 1`` columns, as the next state.

    ``state`` is what earlier tokens left, None zeros: the columns right before the first token that is no padding. Columns of
    another segment count as zeros, and so does padding (segment 0) inside a segment. Padding gets zeros and leaves the state as
    the last token before it does. Sums are float32 at least.
    """
    (batch, length, _), past = x.shape, weight.shape[1] - 1
    state = jnp.zeros((batch, past, x.shape[2]), x.dtype) if state is None else state.astype(x.dtype)
    if segments is None:
        columns, runs = jnp.concatenate([state, x], axis=1), None
        state = columns[:, length:]
    else:
        columns, runs = _behind_state(x, state, segments)
        state = _last(columns, runs, segments)
    wide, taps = at_least_float32(x.dtype), weight.astype(at_least_float32(x.dtype))
    total = jnp.zeros(x.shape, wide)
    for tap in range(past + 1):
        column = columns[:, tap : tap + length].astype(wide)
        if runs is not None:
            column = jnp.where((runs[:, tap : tap + length] == runs[:, past:])[:, :, None], column, 0.0)
        total = total + column * taps[None, None, :, tap]
    out = jax.nn.silu(total).astype(x.dtype)
    return (out if segments is None else jnp.where((segments != 0)[:, :, None], out, 0.0)), state


def _behind_state(
    x: Float[Array, "B T C"], state: Float[Array, "B P C"], segments: Int[Array, "B T"]
) -> tuple[Float[Array, "B S C"], Int[Array, "B S"]]:
    """P more columns in front, the state right before the first token that is no padding, and the run of every column.

    Padding is of run -1; the state is of run 0, which is the one that goes on.
    """
    past, real = state.shape[1], segments != 0
    first = jnp.where(jnp.any(real, axis=1), jnp.argmax(real, axis=1), segments.shape[1])
    rows, places = jnp.arange(len(x))[:, None], first[:, None] + jnp.arange(past)[None, :]
    columns = jnp.concatenate([jnp.zeros_like(state), x], axis=1)
    runs = jnp.pad(jnp.where(real, segment_runs(segments), -1), ((0, 0), (past, 0)), constant_values=-1)
    return columns.at[rows, places].set(state), runs.at[rows, places].set(0)


def _last(columns: Float[Array, "B S C"], runs: Int[Array, "B S"], segments: Int[Array, "B T"]) -> Float[Array, "B P C"]:
    """The P columns up to the last that is no padding, zeros where they are not of its run."""
    length, real = segments.shape[1], segments != 0
    past = runs.shape[1] - length
    last = length - 1 - jnp.where(jnp.any(real, axis=1), jnp.argmax(real[:, ::-1], axis=1), 0)
    places = last[:, None] + 1 + jnp.arange(past)[None, :]
    run = jnp.take_along_axis(runs, last[:, None] + past, axis=1)
    same = jnp.take_along_axis(runs, places, axis=1) == run
    return jnp.where(same[:, :, None], jnp.take_along_axis(columns, places[:, :, None], axis=1), 0.0)
