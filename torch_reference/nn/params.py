"""How a parameter is made.

What the JAX package adds, the flat view and the logical axes of every parameter, torch has of its own (``named_parameters``) or
does not need.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from jax_transformer.config import Dtype, Init, Model
from torch_reference.ops.precision import at_least_float32


class Maker:
    """Hands out initialised parameters, on torch's default device, while a model is being built."""

    def __init__(self, generator: torch.Generator, dtype: Dtype, std: float, residual_std: float):
        self.generator = generator
        self.dtype = dtype
        self.std = std
        self.residual_std = residual_std

    @staticmethod
    def of_model(c: Model, generator: torch.Generator) -> "Maker":
        """The recipe of a model's ``dtype`` and ``init``, for what lies outside its stacks."""
        return Maker(generator, c.dtype, c.init.std, c.init.std)

    def of_stack(self, c: Init, num_layers: int) -> "Maker":
        """The same recipe for a stack: each branch's last projection has its std divided by ``sqrt(2 * num_layers)`` if so
        configured. Draws from the same stream."""
        residual_std = c.std / (2 * num_layers) ** 0.5 if c.depth_scaled else c.std
        return Maker(self.generator, self.dtype, self.std, residual_std)

    def normal(self, shape: tuple[int, ...], std: float | None = None) -> nn.Parameter:
        """Normal values with ``std`` (default: the model's ``init.std``); the same on every device, none on ``meta``."""
        return self._drawn(lambda **source: torch.randn(shape, **source) * (self.std if std is None else std), shape)

    def uniform(self, bounds: tuple[float, float], shape: tuple[int, ...], *, log: bool = False) -> nn.Parameter:
        """Uniform values between ``bounds``, or their logarithms; drawn as normal ones are."""
        low, high = bounds

        def draw(**source: Any) -> Tensor:
            values = low + (high - low) * torch.rand(shape, **source)
            return torch.log(values) if log else values

        return self._drawn(draw, shape)

    def constant(self, value: float, shape: tuple[int, ...]) -> nn.Parameter:
        """One value everywhere: 1 for scales, 0 for biases."""
        return nn.Parameter(torch.full(shape, value, dtype=getattr(torch, self.dtype.param)))

    def _drawn(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> nn.Parameter:
        dtype, device = getattr(torch, self.dtype.param), torch.get_default_device()
        if device.type == "meta":
            return nn.Parameter(torch.empty(shape, dtype=dtype))
        values = draw(dtype=at_least_float32(dtype), generator=self.generator, device=self.generator.device)
        return nn.Parameter(values.to(device, dtype))
