"""Biases on attention scores by the distance between query and key: ALiBi and T5's buckets."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_reference.ops.precision import at_least_float32


@dataclass(frozen=True)
class OffsetBias:
    """A bias on the scores that depends on nothing but ``k_position - q_position``: what computes any part of it on its own."""

    parameters: Any
    """What has gradients: arrays, or nothing."""
    function: Callable[[Any, Int[Tensor, "#B T S"]], Float[Tensor, "#B N T S"]]

    def at(self, offsets: Int[Tensor, "#B T S"]) -> Float[Tensor, "#B N T S"]:
        """The bias at these offsets."""
        return self.function(self.parameters, offsets)


def alibi_slopes(num_heads: int, max_bias: float) -> np.ndarray:
    """One slope per head, ``2 ** (-max_bias i / n)`` for ``i = 1..n``, in float64 (https://arxiv.org/abs/2108.12409).

    Where ``num_heads`` is no power of two: those of the power of two below it, then every other one of twice as many heads.
    """
    below = 2 ** (num_heads.bit_length() - 1)
    plain, finer = (2.0 ** (-max_bias * np.arange(1, n + 1, dtype=np.float64) / n) for n in (below, 2 * below))
    return np.concatenate([plain, finer[::2]])[:num_heads]


def alibi(offsets: Int[Tensor, "#B T S"], slopes: np.ndarray, dtype: torch.dtype) -> Float[Tensor, "#B N T S"]:
    """``-slope * |offset|`` per head, in ``dtype`` or float32: bfloat16 distances would collide above 256."""
    wide = at_least_float32(dtype)
    return -torch.as_tensor(slopes, dtype=wide, device=offsets.device)[:, None, None] * torch.abs(offsets)[:, None].to(wide)


def distance_buckets(num_buckets: int, max_distance: int) -> np.ndarray:
    """Bucket of each distance 0..``max_distance`` in one direction (Raffel et al. 2020, https://arxiv.org/abs/1910.10683).

    Distances below ``exact = num_buckets // 2`` have a bucket each; beyond, bucket ``exact + (num_buckets - exact)
    ln(distance / exact) / ln(max_distance / exact)``, rounded down, and at most the last. Computed on the host, since devices
    round logarithms differently, in float32 and in this order, which is how released models were trained.
    """
    exact = num_buckets // 2
    distances = np.arange(exact, max_distance + 1, dtype=np.float32)
    share = np.log(distances / np.float32(exact)) / np.float32(math.log(max_distance / exact))
    logarithmic = exact + (share * np.float32(num_buckets - exact)).astype(np.int32)
    return np.concatenate([np.arange(exact, dtype=np.int32), np.minimum(logarithmic, num_buckets - 1)])


def relative_buckets(
    offsets: Int[Tensor, "#B T S"], num_buckets: int, max_distance: int, bidirectional: bool
) -> Int[Tensor, "#B T S"]:
    """Bucket of each offset (key minus query position), in ``[0, num_buckets)``.

    Bidirectional: the first half of the buckets for keys up to the query, the second for those after it. Else all are for
    the past, and the future is in bucket 0.
    """
    own = num_buckets // 2 if bidirectional else num_buckets
    distances = torch.abs(offsets) if bidirectional else torch.clamp(-offsets, min=0)
    table = torch.as_tensor(distance_buckets(own, max_distance), device=offsets.device)
    buckets = table[torch.clamp(distances, max=max_distance)]
    return torch.where(offsets > 0, buckets + own, buckets) if bidirectional else buckets


def bucket_bias(table: Float[Tensor, "buckets N"], buckets: Int[Tensor, "#B T S"]) -> Float[Tensor, "#B N T S"]:
    """The row of ``table`` for each bucket, heads before positions."""
    return torch.movedim(table[buckets], -1, 1)


@dataclass(frozen=True)
class SlopeFunction:
    """``alibi`` as the function of an ``OffsetBias``, which has no parameters."""

    num_heads: int
    max_bias: float
    dtype: torch.dtype

    def __call__(self, parameters: tuple[()], offsets: Int[Tensor, "#B T S"]) -> Float[Tensor, "#B N T S"]:
        """``-slope * |offset|``."""
        return alibi(offsets, alibi_slopes(self.num_heads, self.max_bias), self.dtype)


@dataclass(frozen=True)
class BucketFunction:
    """T5's buckets as the function of an ``OffsetBias``, whose parameters are the table."""

    num_buckets: int
    max_distance: int
    bidirectional: bool

    def __call__(self, table: Float[Tensor, "buckets N"], offsets: Int[Tensor, "#B T S"]) -> Float[Tensor, "#B N T S"]:
        """The table's number for each offset."""
        return bucket_bias(table, relative_buckets(offsets, self.num_buckets, self.max_distance, self.bidirectional))
