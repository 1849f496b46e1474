"""The owners of matmul weights: ``Linear`` and ``Embed``."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from torch_reference.nn.params import Maker
from torch_reference.ops.precision import at_least_float32

Dims = dict[str, int]
"""Logical axis name -> size, in order."""


class Linear(nn.Module):
    """``y = x W^T + b``, summing over the last ``len(inputs)`` dimensions of ``x``.

    The weight is ``[prod(outputs), prod(inputs)]``, torch's own layout.
    """

    def __init__(self, inputs: Dims, outputs: Dims, make: Maker, *, bias: bool = False, std: float | None = None):
        super().__init__()
        self.out_dims = tuple(outputs.values())
        self.weight = make.normal((math.prod(self.out_dims), math.prod(inputs.values())), std=std)
        self.bias = make.constant(0.0, (math.prod(self.out_dims),)) if bias else None
        self.num_inputs = len(inputs)

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """``[*batch, *inputs]`` to ``[*batch, *outputs]``, in the dtype of ``x``."""
        batch = x.shape[: x.ndim - self.num_inputs]
        y = functional.linear(x.reshape(*batch, -1), self.weight.to(x.dtype))
        if self.bias is not None:
            y = y + self.bias.to(x.dtype)
        return y.reshape(*batch, *self.out_dims)


class Embed(nn.Module):
    """A table of one row per id (token, position, type, bucket); that of tokens is usable in both directions."""

    def __init__(self, rows: int, width: int, make: Maker):
        super().__init__()
        self.weight = make.normal((rows, width))
        self.compute_dtype = getattr(torch, make.dtype.compute)

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Look up rows. The caller has checked the ids."""
        return functional.embedding(ids, self.weight.to(self.compute_dtype))

    def attend(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T V"]:
        """Scores against every row, ``x E^T``: the output matrix of a model with tied embeddings."""
        return project(x, self.weight.to(x.dtype))


def project(x: Float[Tensor, "B T D"], weight: Float[Tensor, "V D"]) -> Float[Tensor, "B T V"]:
    """``x W^T`` accumulated and returned in float32 at least, for logits.

    The inputs are widened first: products of 16-bit floats are exact in float32.
    """
    wide = at_least_float32(x.dtype)
    return functional.linear(x.to(wide), weight.to(wide))
