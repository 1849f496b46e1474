"""Position modules: what attention does to its queries, keys and scores to know where a token is, by config."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.context import Context
from torch_reference.nn.linear import Embed
from torch_reference.nn.params import Maker
from torch_reference.ops import rope_scaling
from torch_reference.ops.mask import Mask
from torch_reference.ops.position import apply_rope, rope_frequencies
from torch_reference.ops.position_bias import BucketFunction, OffsetBias, SlopeFunction
from torch_reference.ops.precision import at_least_float32


class NoPosition(nn.Module):
    """Neither rotates nor adds a bias."""

    def __init__(self, c: config.Position, heads: tuple[int, int], make: Maker):
        """``heads`` are the number of heads and the width of each."""
        super().__init__()

    def rotate(self, x: Float[Tensor, "B T N H"], mask: Mask) -> Float[Tensor, "B T N H"]:
        """Queries, or keys of the same tokens, with what their positions do to them."""
        return x

    def bias(self, context: Context) -> OffsetBias | None:
        """What is added to the scores, in float32 at least, by offset; None for nothing."""
        return None


class Rope(NoPosition):
    """Rotary position embedding, with any scaling of its frequencies; no parameters."""

    def __init__(self, c: config.Rope, heads: tuple[int, int], make: Maker):
        super().__init__(c, heads, make)
        self.config = c
        # A numpy array, not a buffer: it keeps its float64 when the module is cast, and its values on the meta device.
        self.frequencies = static_frequencies(c, c.rotary_dim(heads[1]))

    def rotate(self, x: Float[Tensor, "B T N H"], mask: Mask) -> Float[Tensor, "B T N H"]:
        """Rotate queries or keys by the positions of the mask's queries."""
        c, dtype = self.config, at_least_float32(x.dtype)
        magnitude = c.scaling.magnitude if isinstance(c.scaling, config.YarnScaling | config.LongRopeScaling) else 1.0
        frequencies = self.frequencies
        match c.scaling:
            case config.DynamicNtkScaling(factor=factor, original_length=original):
                frequencies = rope_scaling.dynamic_ntk(frequencies, mask.lengths(), factor, original, dtype)
            case config.LongRopeScaling(original_length=original, short_factors=short, long_factors=long):
                frequencies = rope_scaling.longrope(frequencies, mask.lengths(), original, (short, long), dtype)
        return apply_rope(x, mask.q_positions, frequencies, c.layout, magnitude)


def static_frequencies(c: config.Rope, rotary_dim: int) -> np.ndarray:
    """The float64 frequencies of a config, as far as they do not depend on the length of the sequence."""
    plain = rope_frequencies(c.base, rotary_dim)
    match c.scaling:
        case config.LinearScaling(factor=factor):
            return rope_scaling.linear(plain, factor)
        case config.NtkScaling(factor=factor):
            return rope_frequencies(rope_scaling.ntk_base(c.base, rotary_dim, factor), rotary_dim)
        case config.YarnScaling() as s:
            return rope_scaling.yarn(plain, c.base, s.factor, s.original_length, (s.beta_fast, s.beta_slow), s.truncate)
        case config.Llama3Scaling() as s:
            bounds = (s.low_frequency_factor, s.high_frequency_factor)
            return rope_scaling.llama3(plain, s.factor, s.original_length, bounds)
        case _:
            return plain


class Alibi(NoPosition):
    """A bias that falls linearly with distance; no parameters."""

    def __init__(self, c: config.Alibi, heads: tuple[int, int], make: Maker):
        super().__init__(c, heads, make)
        self.function = SlopeFunction(heads[0], c.max_bias, getattr(torch, make.dtype.compute))

    def bias(self, context: Context) -> OffsetBias:
        """``-slope * distance``."""
        return OffsetBias((), self.function)


class T5Bias(NoPosition):
    """A learned bias per head and bucket of relative distance, for one layer or shared by a stack."""

    def __init__(self, c: config.T5Bias, heads: tuple[int, int], make: Maker):
        super().__init__(c, heads, make)
        self.table = Embed(c.num_buckets, heads[0], make)
        self.config = c

    def bias(self, context: Context) -> OffsetBias:
        """The table's number for each offset; attention that is not causal has buckets for either direction."""
        c = self.config
        # Not looked up through the table's own call: that would round to the compute dtype.
        table = self.table.weight.to(at_least_float32(self.table.compute_dtype))
        return OffsetBias(table, BucketFunction(c.num_buckets, c.max_distance, not context.mask.causal))


class SharedBias(NoPosition):
    """Adds the bias that the stack's layers share."""

    def bias(self, context: Context) -> OffsetBias | None:
        """That of the context."""
        return context.shared_bias


POSITION: dict[type[config.Config], Callable[..., NoPosition]] = {
    config.Rope: Rope,
    config.Alibi: Alibi,
    config.T5Bias: T5Bias,
    config.SharedBias: SharedBias,
    config.NoPosition: NoPosition,
}
