"""The one place where attention meets its forms: here the definition, and what a window allows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from jax_transformer import config
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.attention.reference import softmax_attention
from torch_reference.ops.attention.windowed import windowed_attention
from torch_reference.ops.dropout import Noise
from torch_reference.ops.mask import Mask
from torch_reference.ops.position_bias import OffsetBias

Scored = config.Softmax | config.Complex | config.Mla | config.CrossAttention


@dataclass(frozen=True)
class _Task:
    """What is to be computed besides queries, keys and values."""

    config: Scored
    mask: Mask
    bias: OffsetBias | None
    sinks: Float[Tensor, " N"] | None
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
    q: Float[Tensor, "B T N H"],
    k: Float[Tensor, "B S K H"],
    v: Float[Tensor, "B S K V"],
    mask: Mask,
    *,
    bias: OffsetBias | None = None,
    sinks: Float[Tensor, " N"] | None = None,
    noise: Noise | None = None,
    cached: bool = False,
    tap: Tap = SILENT,
) -> Float[Tensor, "B T N V"]:
    """``softmax_attention`` in the form that the config asks for; ``cached`` keys and values outlive the call.

    The reference taps ``probabilities``, which no other form has: here they are computed without being tapped.
    """
    return FORMS[c.implementation](_Task(c, mask, bias, sinks, noise, cached, tap), q, k, v)


def _reference(task: _Task, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    shape, mask = task.shape, task.mask
    shape["bias"] = None if task.bias is None else task.bias.at(mask.offsets())
    allowed = mask.allowed(task.window, task.sink_tokens, task.chunk_size)
    mixed, probabilities = softmax_attention(q, k, v, allowed, task.config.score_scale, **shape, drop=task.drop)
    task.tap("probabilities", probabilities)
    return mixed


def _untapped(task: _Task, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _reference(replace(task, tap=SILENT), q, k, v)


def _windowed(task: _Task, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if task.cached:  # the slots of remembered keys are no positions
        return _untapped(task, q, k, v)
    assert task.window is not None
    return windowed_attention(q, k, v, task.mask, task.config.score_scale, window=task.window, drop=task.drop, **task.shape)


FORMS: dict[str, Callable[[_Task, Tensor, Tensor, Tensor], Tensor]] = {
    "auto": _reference,
    "reference": _reference,
    "blockwise": _untapped,
    "windowed": _windowed,
    "cudnn": _untapped,
    "splash": _untapped,
}
