"""How rotary frequencies change for sequences longer than those of the original training."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.base import Config, Positive, type_of_sequence

Factor = Annotated[float, Field(ge=1.0)]
"""How many times longer the sequences are than those of the original training."""

Factors = Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], type_of_sequence, Field(min_length=1)]
"""One divisor per rotated pair."""

PositiveFloat = Annotated[float, Field(gt=0.0)]


class LinearScaling(Config):
    """Position interpolation, ``frequency / factor`` (https://arxiv.org/abs/2306.15595)."""

    kind: Literal["linear"] = "linear"
    factor: Factor


class NtkScaling(Config):
    """Static NTK-aware scaling: ``base * factor ** (d / (d - 2))`` with ``d`` rotated dimensions."""

    kind: Literal["ntk"] = "ntk"
    factor: Factor


class DynamicNtkScaling(Config):
    """NTK-aware scaling by the length L of the sequence so far, once it is above ``original_length`` L0.

    ``base * (factor * L / L0 - (factor - 1)) ** (d / (d - 2))``. Keys that a cache already holds keep the rotation of the
    length at which they were stored: decoding beyond ``original_length`` differs from one full pass, as it does elsewhere.
    """

    kind: Literal["dynamic_ntk"] = "dynamic_ntk"
    factor: Factor
    original_length: Positive


class YarnScaling(Config):
    """YaRN (https://arxiv.org/abs/2309.00071): slow pairs are interpolated, fast ones kept, those between blended.

    A pair turns ``beta`` times within ``original_length`` at index ``d ln(original_length / (2 pi beta)) / (2 ln base)``;
    between the indices of ``beta_fast`` and ``beta_slow`` the blend is linear.
    """

    kind: Literal["yarn"] = "yarn"
    factor: Factor
    original_length: Positive
    beta_fast: PositiveFloat = 32.0
    beta_slow: PositiveFloat = 1.0
    truncate: bool = True
    """Round the two indices outwards to whole pairs."""
    attention_factor: PositiveFloat | None = None
    """Factor on rotated queries and keys. None: ``0.1 ln(factor) + 1``."""

    @model_validator(mode="after")
    def _check_betas(self) -> Self:
        if self.beta_fast <= self.beta_slow:
            raise ValueError(f"beta_fast={self.beta_fast} must be above beta_slow={self.beta_slow}: fast pairs turn more often")
        return self

    @property
    def magnitude(self) -> float:
        """``attention_factor`` with its default filled in."""
        return 0.1 * math.log(self.factor) + 1.0 if self.attention_factor is None else self.attention_factor


class Llama3Scaling(Config):
    """Llama 3.1's (https://arxiv.org/abs/2407.21783): by wavelength ``w``, with L0 = ``original_length``.

    ``frequency`` where ``w < L0 / high_frequency_factor``, ``frequency / factor`` where ``w > L0 / low_frequency_factor``, and
    between them a blend that is linear in ``L0 / w``.
    """

    kind: Literal["llama3"] = "llama3"
    factor: Factor
    original_length: Positive
    low_frequency_factor: PositiveFloat = 1.0
    high_frequency_factor: PositiveFloat = 4.0

    @model_validator(mode="after")
    def _check_factors(self) -> Self:
        if self.high_frequency_factor < self.low_frequency_factor:
            raise ValueError(
                f"high_frequency_factor={self.high_frequency_factor} must not be below "
                f"low_frequency_factor={self.low_frequency_factor}: the blend lies between them"
            )
        return self


class LongRopeScaling(Config):
    """LongRoPE (https://arxiv.org/abs/2402.13753): one divisor per pair, ``short_factors`` up to ``original_length`` tokens and
    ``long_factors`` for longer sequences.

    Keys that a cache holds keep the rotation of the length at which they were stored; ``generate`` reads all tokens anew where
    the long factors begin.
    """

    kind: Literal["longrope"] = "longrope"
    factor: Factor
    """Longest over original length; sets the default of ``attention_factor``."""
    original_length: Annotated[int, Field(ge=2)]
    short_factors: Factors
    long_factors: Factors
    attention_factor: PositiveFloat | None = None
    """Factor on rotated queries and keys. None: ``sqrt(1 + ln(factor) / ln(original_length))``."""

    @property
    def magnitude(self) -> float:
        """``attention_factor`` with its default filled in."""
        if self.attention_factor is not None:
            return self.attention_factor
        return math.sqrt(1.0 + math.log(self.factor) / math.log(self.original_length))


RopeScaling = Annotated[
    LinearScaling | NtkScaling | DynamicNtkScaling | YarnScaling | Llama3Scaling | LongRopeScaling, Field(discriminator="kind")
]
