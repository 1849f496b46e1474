"""Normalisations over the last dimension, computed in float32 at least and cast back."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from torch_reference.ops.precision import at_least_float32


def rms_norm(
    x: Float[Tensor, "*B D"],
    scale: Float[Tensor, "*W D"] | None,
    eps: float,
    cast: Literal["before_weight", "after_weight"] = "before_weight",
) -> Float[Tensor, "*B D"]:
    """``x / sqrt(mean(x^2) + eps) * scale``; a scale ``[*W, D]`` has its own row for each index of the dimensions before D.

    ``cast`` says where the result is rounded to the input's type: before it is scaled (Llama) or after (Gemma, OLMo2).
    """
    wide = x.to(at_least_float32(x.dtype))
    normed = wide * torch.rsqrt(torch.mean(torch.square(wide), dim=-1, keepdim=True) + eps)
    if scale is None:
        return normed.to(x.dtype)
    if cast == "after_weight":
        return (normed * scale.to(wide.dtype)).to(x.dtype)
    return normed.to(x.dtype) * scale.to(x.dtype)


def layer_norm(
    x: Float[Tensor, "*B D"], scale: Float[Tensor, "*W D"] | None, bias: Float[Tensor, "*W D"] | None, eps: float
) -> Float[Tensor, "*B D"]:
    """``(x - mean) / sqrt(var + eps) * scale + bias``; each of the last two may be left out, or have rows ``[*W, D]``.

    The variance is taken of the centred values: ``mean(x^2) - mean(x)^2`` loses every digit when the mean is large.
    """
    wide = x.to(at_least_float32(x.dtype))
    centred = wide - torch.mean(wide, dim=-1, keepdim=True)
    normed = centred * torch.rsqrt(torch.mean(torch.square(centred), dim=-1, keepdim=True) + eps)
    scaled = normed if scale is None else normed * scale.to(wide.dtype)
    return (scaled if bias is None else scaled + bias.to(wide.dtype)).to(x.dtype)


def scale_norm(
    x: Float[Tensor, "*B D"], weight: Float[Tensor, "1"], eps: float, eps_rule: Literal["add", "clamp"] = "add"
) -> Float[Tensor, "*B D"]:
    """``weight * x / (norm(x) + eps)``, or ``weight * x / max(norm(x), eps)`` for ``clamp``.

    At ``x = 0`` the derivative is ``weight / eps``, for both rules.
    """
    wide = x.to(at_least_float32(x.dtype))
    squares = torch.sum(torch.square(wide), dim=-1, keepdim=True)
    # The root of 0 has an infinite slope, which times 0 is not a number, even in a branch that a later where discards.
    zero = squares == 0
    norm = torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, squares)))
    divisor = norm + eps if eps_rule == "add" else torch.where(norm < eps, eps, norm)
    return (wide * (weight.to(wide.dtype) / divisor)).to(x.dtype)


def l2_norm(x: Float[Tensor, "*B D"], eps: float) -> Float[Tensor, "*B D"]:
    """``x / sqrt(sum(x^2) + eps)``: unit length."""
    wide = x.to(at_least_float32(x.dtype))
    return (wide * torch.rsqrt(torch.sum(torch.square(wide), dim=-1, keepdim=True) + eps)).to(x.dtype)
