"""Token mixers: the closed table from config to module."""

from collections.abc import Callable
from typing import Any

from jax_transformer import config
from torch_reference.nn.attention.complex import ComplexAttention
from torch_reference.nn.attention.gated_delta import GatedDelta
from torch_reference.nn.attention.linear import LinearAttention
from torch_reference.nn.attention.mla import Mla
from torch_reference.nn.attention.softmax import SoftmaxAttention

ATTENTION: dict[type[config.Config], Callable[..., Any]] = {
    config.Softmax: SoftmaxAttention,
    config.Complex: ComplexAttention,
    config.Mla: Mla,
    config.Linear: LinearAttention,
    config.GatedDelta: GatedDelta,
}
