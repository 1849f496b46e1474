"""The one place where attention meets its forms: same function, chosen by config or by length."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float

from jax_transformer import config
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.attention.blockwise import blockwise_attention
from jax_transformer.ops.attention.cudnn import cudnn_attention
from jax_transformer.ops.attention.reference import softmax_attention
from jax_transformer.ops.attention.splash import splash_attention
from jax_transformer.ops.attention.windowed import windowed_attention
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.mask import Mask
from jax_transformer.ops.position_bias import OffsetBias

LONG = 512 * 512
"""Queries times keys from which ``auto`` goes by blocks: with 256 tokens these and the reference take the same time, with 512
blocks take half of it (``scripts/bench_attention.py`` on two CPU cores)."""
MANY_TOKENS, MANY_WINDOWS, WIDEST = 256, 4, 128
"""``auto`` goes by windows for at least this many tokens and windows, the window being no wider than this: blocks of keys that
are as wide as a wider one cost more than those that ``blockwise`` skips (the same measurement)."""

Scored = config.Softmax | config.Complex | config.Mla | config.CrossAttention


@dataclass(frozen=True)
class _Task:
    """What is to be computed besides queries, keys and values."""

    config: Scored
    mask: Mask
    bias: OffsetBias | None
    sinks: Float[Array, " N"] | None
    noise: Noise | None
    cached: bool
    tap: Tap

    @property
    def window(self) -> int | None:
        """Cross-attention has none."""
        return getattr(self.config, "window", None)

    @property
    def sink_tokens(self) -> int:
        """Nor these."""
        return getattr(self.config, "sink_tokens", 0)

    @property
    def chunk_size(self) -> int | None:
        """Nor chunks."""
        return getattr(self.config, "chunk_size", None)

    @property
    def shape(self) -> dict[str, Any]:
        """What scores become before the softmax."""
        return {"softcap": getattr(self.config, "softcap", None), "bias": self.bias, "sinks": self.sinks}

    @property
    def drop(self) -> tuple[float, Noise | None]:
        """Drop rate of the probabilities, and its noise."""
        return self.config.dropout, self.noise


def attend(
    c: Scored,
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K V"],
    mask: Mask,
    *,
    bias: OffsetBias | None = None,
    sinks: Float[Array, " N"] | None = None,
    noise: Noise | None = None,
    cached: bool = False,
    tap: Tap = SILENT,
) -> Float[Array, "B T N V"]:
    """``softmax_attention`` in the form that the config asks for; ``cached`` keys and values outlive the call.

    The reference taps ``probabilities``, which no other form has. ``auto`` is the reference wherever they are tapped.
    """
    return FORMS[c.implementation](_Task(c, mask, bias, sinks, noise, cached, tap), q, k, v)


def _auto(task: _Task, q: Array, k: Array, v: Array) -> Array:
    return FORMS[_choice(task, q.shape[1], k.shape[1])](task, q, k, v)


def _choice(task: _Task, length: int, keys: int) -> config.Form:
    """By what is asked for, then by length. Never a kernel: these are for the config to choose."""
    if task.tap.values is not None or (task.noise is not None and task.config.dropout):
        return "reference"
    narrow = task.window is not None and task.window <= min(WIDEST, length // MANY_WINDOWS)
    if narrow and length >= MANY_TOKENS and not task.sink_tokens and not task.cached:
        return "windowed"
    return "blockwise" if length * keys >= LONG else "reference"


def _reference(task: _Task, q: Array, k: Array, v: Array) -> Array:
    shape, mask = task.shape, task.mask
    shape["bias"] = None if task.bias is None else task.bias.at(mask.offsets())
    allowed = mask.allowed(task.window, task.sink_tokens, task.chunk_size)
    mixed, probabilities = softmax_attention(q, k, v, allowed, task.config.score_scale, **shape, drop=task.drop)
    task.tap("probabilities", probabilities)
    return mixed


def _blockwise(task: _Task, q: Array, k: Array, v: Array) -> Array:
    sight = {"window": task.window, "sink_tokens": task.sink_tokens, "chunk_size": task.chunk_size}
    return blockwise_attention(q, k, v, task.mask, task.config.score_scale, **sight, **task.shape)


def _whole(compute: Callable[[_Task, Array, Array, Array], Array]) -> Callable[[_Task, Array, Array, Array], Array]:
    """A form for a sequence over itself; among remembered keys, whose slots are no positions, blocks take its place."""
    return lambda task, *arrays: (_blockwise if task.cached else compute)(task, *arrays)


def _windowed(task: _Task, q: Array, k: Array, v: Array) -> Array:
    assert task.window is not None
    return windowed_attention(q, k, v, task.mask, task.config.score_scale, window=task.window, drop=task.drop, **task.shape)


def _cudnn(task: _Task, q: Array, k: Array, v: Array) -> Array:
    return cudnn_attention(q, k, v, task.mask, task.config.score_scale, window=task.window, sink_tokens=task.sink_tokens)


def _splash(task: _Task, q: Array, k: Array, v: Array) -> Array:
    return splash_attention(
        q, k, v, task.mask, task.config.score_scale, window=task.window, softcap=task.shape["softcap"], sinks=task.sinks
    )


FORMS: dict[str, Callable[[_Task, Array, Array, Array], Array]] = {
    "auto": _auto,
    "reference": _reference,
    "blockwise": _blockwise,
    "windowed": _whole(_windowed),
    "cudnn": _whole(_cudnn),
    "splash": _whole(_splash),
}
