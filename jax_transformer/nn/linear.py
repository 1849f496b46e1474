"""The owners of matmul weights: ``Linear`` and ``Embed``."""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer.nn.params import Maker
from jax_transformer.ops.constrain import constrain
from jax_transformer.ops.precision import at_least_float32, matmul_precision

Dims = dict[str, int]
"""Logical axis name -> size, in order."""


class Linear(nnx.Module):
    """``y = x W + b``, summing over the last ``len(inputs)`` dimensions of ``x``.

    The kernel keeps its logical shape ``[*inputs, *outputs]`` so that heads can be sharded by name; the multiplication is
    two-dimensional, because XLA on CPU is several times slower in the backward pass of a batched one.
    """

    def __init__(self, inputs: Dims, outputs: Dims, make: Maker, *, bias: bool = False, std: float | None = None):
        shape = (*inputs.values(), *outputs.values())
        self.kernel = make.normal(shape, (*inputs, *outputs), contracted=len(inputs), std=std)
        self.bias = make.constant(0.0, tuple(outputs.values()), tuple(outputs)) if bias else None
        self.num_inputs = len(inputs)
        self.out_dims = tuple(outputs.values())

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """``[*batch, *inputs]`` to ``[*batch, *outputs]``, in the dtype of ``x``."""
        batch = x.shape[: x.ndim - self.num_inputs]
        width = math.prod(x.shape[len(batch) :])
        kernel = self.kernel[...].astype(x.dtype).reshape(width, -1)
        y = jnp.dot(x.reshape(-1, width), kernel, precision=matmul_precision(x.dtype))
        if self.bias is not None:
            y = y + self.bias[...].astype(x.dtype).reshape(1, -1)
        return y.reshape(*batch, *self.out_dims)


class Embed(nnx.Module):
    """A table of one row per id (token, position, type, bucket); that of tokens is usable in both directions."""

    def __init__(self, rows: int, width: int, make: Maker, axes: tuple[str, str] = ("vocab", "embed")):
        self.embedding = make.normal((rows, width), axes)
        self.split_rows = axes[0] if axes[0] == "vocab" else None
        self.compute_dtype = make.dtype.compute

    def __call__(self, ids: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """Look up rows. The caller has checked the ids: a gather would clamp one that is out of range."""
        # The gather wants whole rows: left sharded over D, the partitioner would rematerialise the table.
        table = constrain(self.embedding[...].astype(self.compute_dtype), self.split_rows, None)
        return table[ids]

    def attend(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Scores against every row, ``x E^T``: the output matrix of a model with tied embeddings."""
        return project(x, self.embedding[...].astype(x.dtype).T)


def project(x: Float[Array, "B T D"], kernel: Float[Array, "D V"]) -> Float[Array, "B T V"]:
    """``x W`` accumulated and returned in float32 at least, for logits."""
    wide = at_least_float32(x.dtype)
    flat = x.reshape(-1, x.shape[-1])
    y = jnp.dot(flat, kernel, precision=matmul_precision(x.dtype), preferred_element_type=wide)
    return y.reshape(*x.shape[:-1], -1)
