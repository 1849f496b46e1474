"""Token mixers: the closed table from config to module."""

from collections.abc import Callable
from typing import Any

from jax_transformer import config
from jax_transformer.nn.attention.complex import ComplexAttention
from jax_transformer.nn.attention.gated_delta import GatedDelta
from jax_transformer.nn.attention.linear import LinearAttention
from jax_transformer.nn.attention.mla import Mla
from jax_transformer.nn.attention.softmax import SoftmaxAttention

ATTENTION: dict[type[config.Config], Callable[..., Any]] = {
    config.Softmax: SoftmaxAttention,
    config.Complex: ComplexAttention,
    config.Mla: Mla,
    config.Linear: LinearAttention,
    config.GatedDelta: GatedDelta,
}
