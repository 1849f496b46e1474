"""Normalisations over the feature dimension."""

from typing import Annotated, Literal

from pydantic import Field

from jax_transformer.config.base import Config

Epsilon = Annotated[float, Field(gt=0.0, lt=1.0)]

NormWeight = Literal["scale", "one_plus", "none"]
"""What multiplies the normalised value: a learned ``weight`` (initially 1); ``1 + weight`` (initially 0; Gemma, Qwen3-Next,
Nemotron); or nothing."""


class RMSNorm(Config):
    """``x / sqrt(mean(x^2) + eps) * weight`` (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467)."""

    kind: Literal["rms_norm"] = "rms_norm"
    eps: Epsilon = 1e-6
    weight: NormWeight = "scale"
    cast: Literal["before_weight", "after_weight"] = "before_weight"
    """In 16 bits: round the normalised value, then multiply (Llama), or multiply in float32, then round (Gemma, OLMo2)."""


class LayerNorm(Config):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` (Ba et al. 2016, https://arxiv.org/abs/1607.06450)."""

    kind: Literal["layer_norm"] = "layer_norm"
    eps: Epsilon = 1e-5
    weight: NormWeight = "scale"
    bias: bool = True


class ScaleNorm(Config):
    """``weight * x / (norm(x) + eps)`` with one learned number (Nguyen & Salazar 2019, https://arxiv.org/abs/1910.05895)."""

    kind: Literal["scale_norm"] = "scale_norm"
    eps: Epsilon = 1e-5
    eps_rule: Literal["add", "clamp"] = "add"
    """Divide by ``norm(x) + eps``, or by ``max(norm(x), eps)`` (the paper's code)."""
    init: Literal["one", "sqrt_dim"] = "sqrt_dim"
    """Initial weight: 1, or the root of the width (the paper)."""


class L2Norm(Config):
    """``x / sqrt(sum(x^2) + eps)``: unit length, nothing learned."""

    kind: Literal["l2_norm"] = "l2_norm"
    eps: Epsilon = 1e-6


Norm = Annotated[RMSNorm | LayerNorm | ScaleNorm | L2Norm, Field(discriminator="kind")]
