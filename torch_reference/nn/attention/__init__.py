"""Token mixers: the closed table from config to module."""

from collections.abc import Callable
from typing import Any

from jax_transformer import config
from torch_reference.nn.attention.softmax import SoftmaxAttention

ATTENTION: dict[type[config.Config], Callable[..., Any]] = {config.Softmax: SoftmaxAttention}
