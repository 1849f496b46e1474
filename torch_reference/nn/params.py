"""How a parameter is made.

What the JAX package adds, the flat view and the logical axes of every parameter, torch has of its own (``named_parameters``) or
does not need.
"""

import torch
from torch import nn

from jax_transformer.config import Dtype
from torch_reference.ops.precision import at_least_float32


class Maker:
    """Hands out initialised parameters, on torch's default device, while a model is being built."""

    def __init__(self, generator: torch.Generator, dtype: Dtype, std: float, residual_std: float):
        self.generator = generator
        self.dtype = dtype
        self.std = std
        self.residual_std = residual_std

    def normal(self, shape: tuple[int, ...], std: float | None = None) -> nn.Parameter:
        """Normal values with ``std`` (default: the model's ``init.std``); the same on every device, none on ``meta``."""
        dtype, device = getattr(torch, self.dtype.param), torch.get_default_device()
        if device.type == "meta":
            return nn.Parameter(torch.empty(shape, dtype=dtype))
        source = {"generator": self.generator, "device": self.generator.device}
        values = torch.randn(shape, dtype=at_least_float32(dtype), **source) * (self.std if std is None else std)
        return nn.Parameter(values.to(device, dtype))

    def constant(self, value: float, shape: tuple[int, ...]) -> nn.Parameter:
        """One value everywhere: 1 for scales, 0 for biases."""
        return nn.Parameter(torch.full(shape, value, dtype=getattr(torch, self.dtype.param)))
