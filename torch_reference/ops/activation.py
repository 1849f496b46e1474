"""Element-wise nonlinearities, by the names that the config uses."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

ACTIVATION: dict[str, Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]] = {
    "silu": functional.silu,
    "gelu_erf": partial(functional.gelu, approximate="none"),
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "relu": functional.relu,
}
"""``silu`` x sigmoid(x); ``gelu_erf`` x Phi(x); ``gelu_tanh`` its tanh approximation; ``sigmoid``; ``relu`` max(x, 0)."""
