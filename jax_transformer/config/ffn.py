"""Position-wise feed-forward networks."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.base import Config, Positive

Activation = Literal["silu", "gelu_erf", "gelu_tanh", "quick_gelu", "sigmoid", "relu", "relu2", "tanh", "xielu"]
"""GELU has two forms that differ by about 1e-3; the name says which one is meant. ``quick_gelu`` is ``x sigmoid(1.702 x)``,
``relu2`` is ``relu(x)^2``, ``xielu`` has two learned numbers (https://arxiv.org/abs/2411.13010)."""


class _Width(Config):
    """The hidden width, given directly or as a multiple of the model's."""

    hidden_dim: Positive | None = None
    expansion_factor: Annotated[float, Field(gt=0.0)] | None = None
    """In place of ``hidden_dim``: ``int(d_model * expansion_factor)``, rounded up to a multiple of ``multiple_of``."""
    multiple_of: Positive = 1

    def width(self, d_model: int) -> int:
        """The hidden width in a model of width ``d_model``."""
        if self.hidden_dim is not None:
            return self.hidden_dim
        assert self.expansion_factor is not None
        return self.multiple_of * math.ceil(max(int(d_model * self.expansion_factor), 1) / self.multiple_of)

    @model_validator(mode="after")
    def _check_width(self) -> Self:
        if (self.hidden_dim is None) == (self.expansion_factor is None):
            raise ValueError(
                f"hidden_dim={self.hidden_dim} and expansion_factor={self.expansion_factor}: the width is given by exactly one "
                "of them"
            )
        if self.hidden_dim is not None and self.multiple_of != 1:
            raise ValueError(
                f"multiple_of={self.multiple_of} rounds a width given by expansion_factor, but hidden_dim={self.hidden_dim} is "
                "taken as it is: leave multiple_of out"
            )
        return self


class Mlp(_Width):
    """``down(act(up(x)))``."""

    kind: Literal["mlp"] = "mlp"
    activation: Activation = "gelu_erf"
    bias: bool = False


class Glu(_Width):
    """``down(act(gate(x)) * up(x))`` (Shazeer 2020, https://arxiv.org/abs/2002.05202).

    SwiGLU is ``silu``, GEGLU is ``gelu_erf`` or ``gelu_tanh``, SiGLU is ``sigmoid``, ReGLU is ``relu``.
    """

    kind: Literal["glu"] = "glu"
    activation: Activation = "silu"
    bias: bool = False


class ClampedGlu(_Width):
    """The SwiGLU of gpt-oss: ``down(g * sigmoid(alpha g) * (u + 1))`` with ``g = min(gate(x), limit)`` and ``u = up(x)``
    clamped to ``[-limit, limit]``."""

    kind: Literal["clamped_glu"] = "clamped_glu"
    limit: Annotated[float, Field(gt=0.0)] = 7.0
    alpha: Annotated[float, Field(gt=0.0)] = 1.702
    bias: bool = False


DenseFfn = Annotated[Mlp | Glu | ClampedGlu, Field(discriminator="kind")]
"""All of it for every token, unlike a mixture of experts."""
