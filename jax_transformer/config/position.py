"""How a model knows where a token is: inside attention (``Position``) or added to the embedding (``AbsolutePosition``)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.base import Config, Positive
from jax_transformer.config.rope_scaling import DynamicNtkScaling, LongRopeScaling, RopeScaling

Offset = Annotated[int, Field(ge=0)]


class Rope(Config):
    """Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864).

    Rotates dimension pairs of queries and keys by ``position * base ** (-2 i / rotary_dim)``.
    """

    kind: Literal["rope"] = "rope"
    base: Annotated[float, Field(gt=1.0)] = 10_000.0
    """The theta of the paper; the slowest pair turns once in about ``2 pi base`` positions."""
    fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of each head that rotates: ``rotary_dim = int(head_dim * fraction)``; the rest passes through."""
    layout: Literal["half", "half_reversed", "interleaved"] = "half"
    """Which dimensions form a pair: ``(i, i + rotary_dim / 2)``, the same the other way round, which turns it backwards
    (nanochat), or ``(2 i, 2 i + 1)``."""
    scaling: RopeScaling | None = None
    """How the frequencies change for sequences beyond those of the original training. None: not at all."""

    def rotary_dim(self, head_dim: int) -> int:
        """Number of leading head dimensions that rotate."""
        return int(head_dim * self.fraction)

    def depends_on_length(self, length: int) -> bool:
        """Whether a sequence of ``length`` tokens rotates otherwise than its beginning alone would."""
        return isinstance(self.scaling, DynamicNtkScaling | LongRopeScaling) and length > self.scaling.original_length

    def check(self, head_dim: int) -> None:
        """Raises ValueError where heads of ``head_dim`` cannot rotate."""
        rotary_dim = self.rotary_dim(head_dim)
        if rotary_dim % 2 or rotary_dim == 0:
            raise ValueError(
                f"position: rope rotates pairs, but head_dim={head_dim} * fraction={self.fraction} gives "
                f"rotary_dim={rotary_dim}; it must be even and at least 2: change head_dim or position.fraction"
            )
        kind = "" if self.scaling is None else self.scaling.kind
        if kind in ("ntk", "dynamic_ntk") and rotary_dim == 2:
            raise ValueError(
                f"position.scaling: {kind} raises the base to the power d / (d - 2), but only d=2 dimensions rotate; "
                "rotate more of each head or use linear scaling"
            )
        if isinstance(self.scaling, LongRopeScaling):
            for name in ("short_factors", "long_factors"):
                if len(getattr(self.scaling, name)) != rotary_dim // 2:
                    raise ValueError(
                        f"position.scaling.{name}: got {len(getattr(self.scaling, name))} factors, wanted one for each of the "
                        f"{rotary_dim // 2} rotated pairs"
                    )


class Alibi(Config):
    """Attention with linear biases (Press et al. 2022, https://arxiv.org/abs/2108.12409).

    Adds ``-slope * |query position - key position|`` to the scores. Slopes of n heads are ``2 ** (-max_bias i / n)`` for
    ``i = 1..n`` where n is a power of two, else those of the power of two below and every other one of twice as many heads.
    """

    kind: Literal["alibi"] = "alibi"
    max_bias: Annotated[float, Field(gt=0.0)] = 8.0


class T5Bias(Config):
    """A learned bias per head and bucket of relative distance (Raffel et al. 2020, https://arxiv.org/abs/1910.10683).

    Half of a direction's buckets hold one distance each, the other half grow logarithmically up to ``max_distance``, beyond
    which all share the last. Bidirectional attention uses half of the buckets for each direction.
    """

    kind: Literal["t5_bias"] = "t5_bias"
    num_buckets: Annotated[int, Field(ge=4)] = 32
    max_distance: Positive = 128

    @model_validator(mode="after")
    def _check_buckets(self) -> Self:
        if self.num_buckets % 2:
            raise ValueError(f"num_buckets={self.num_buckets} is odd: half of them serve each direction, so use an even number")
        if self.max_distance <= self.num_buckets // 2:
            raise ValueError(
                f"max_distance={self.max_distance} must be above num_buckets // 2 = {self.num_buckets // 2}, the distances "
                "that have a bucket each"
            )
        return self


class SharedBias(Config):
    """Adds the bias that the stack's layers share, ``stack.shared_bias``: T5 has one table for all layers."""

    kind: Literal["shared_bias"] = "shared_bias"


class NoPosition(Config):
    """No position information beyond the causal mask (NoPE, https://arxiv.org/abs/2305.19466)."""

    kind: Literal["none"] = "none"


Position = Annotated[Rope | Alibi | T5Bias | SharedBias | NoPosition, Field(discriminator="kind")]


class Sinusoidal(Config):
    """Fixed sines and cosines added to the embedding (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

    Dimension pair ``i`` of ``d / 2`` has the angle ``(position + offset) * base ** (-i / n)``.
    """

    kind: Literal["sinusoidal"] = "sinusoidal"
    base: Annotated[float, Field(gt=1.0)] = 10_000.0
    layout: Literal["interleaved", "halves"] = "interleaved"
    """``interleaved``: sin, cos, sin, cos (the paper). ``halves``: all sines, then all cosines (Marian, Pegasus, XGLM)."""
    denominator: Literal["half", "half_minus_one"] = "half"
    """The n of the formula: ``d / 2``, or ``d / 2 - 1`` (XGLM, tensor2tensor)."""
    offset: Offset = 0


class Learned(Config):
    """One learned vector per position, added to the embedding; the table has ``max_length + offset`` rows."""

    kind: Literal["learned"] = "learned"
    offset: Offset = 0
    """Rows that no position uses (2 in OPT and BART; ``padding_idx + 1`` in RoBERTa)."""


AbsolutePosition = Annotated[Sinusoidal | Learned, Field(discriminator="kind")]
