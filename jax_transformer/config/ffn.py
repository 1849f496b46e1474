"""Position-wise feed-forward networks."""

from typing import Annotated, Literal

from pydantic import Field

from jax_transformer.config.base import Config, Positive

Activation = Literal["silu", "gelu_erf", "gelu_tanh", "sigmoid", "relu"]
"""GELU has two forms that differ by about 1e-3; the name says which one is meant."""


class Mlp(Config):
    """``down(act(up(x)))``."""

    kind: Literal["mlp"] = "mlp"
    hidden_dim: Positive
    activation: Activation = "gelu_erf"
    bias: bool = False


class Glu(Config):
    """``down(act(gate(x)) * up(x))`` (Shazeer 2020, https://arxiv.org/abs/2002.05202).

    SwiGLU is ``silu``, GEGLU is ``gelu_erf`` or ``gelu_tanh``, SiGLU is ``sigmoid``, ReGLU is ``relu``.
    """

    kind: Literal["glu"] = "glu"
    hidden_dim: Positive
    activation: Activation = "silu"
    bias: bool = False


Ffn = Annotated[Mlp | Glu, Field(discriminator="kind")]
