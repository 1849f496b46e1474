"""Normalisations over the feature dimension."""

from typing import Annotated, Literal

from pydantic import Field

from jax_transformer.config.base import Config

Epsilon = Annotated[float, Field(gt=0.0, lt=1.0)]


class RMSNorm(Config):
    """``x / sqrt(mean(x^2) + eps) * weight`` (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467)."""

    kind: Literal["rms_norm"] = "rms_norm"
    eps: Epsilon = 1e-6


class LayerNorm(Config):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` (Ba et al. 2016, https://arxiv.org/abs/1607.06450)."""

    kind: Literal["layer_norm"] = "layer_norm"
    eps: Epsilon = 1e-5
    bias: bool = True


Norm = Annotated[RMSNorm | LayerNorm, Field(discriminator="kind")]
