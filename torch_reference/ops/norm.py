"""Normalisations over the last dimension, computed in float32 at least and cast back."""

import torch
from jaxtyping import Float
from torch import Tensor

from torch_reference.ops.precision import at_least_float32


def rms_norm(x: Float[Tensor, "*B D"], scale: Float[Tensor, " D"], eps: float) -> Float[Tensor, "*B D"]:
    """``x / sqrt(mean(x^2) + eps)``, cast to the input's type, then times ``scale`` (the order of Llama)."""
    wide = x.to(at_least_float32(x.dtype))
    normed = wide * torch.rsqrt(torch.mean(torch.square(wide), dim=-1, keepdim=True) + eps)
    return normed.to(x.dtype) * scale.to(x.dtype)


def layer_norm(
    x: Float[Tensor, "*B D"], scale: Float[Tensor, " D"], bias: Float[Tensor, " D"] | None, eps: float
) -> Float[Tensor, "*B D"]:
    """``(x - mean) / sqrt(var + eps) * scale + bias``.

    The variance is taken of the centred values: ``mean(x^2) - mean(x)^2`` loses every digit when the mean is large.
    """
    wide = x.to(at_least_float32(x.dtype))
    centred = wide - torch.mean(wide, dim=-1, keepdim=True)
    normed = centred * torch.rsqrt(torch.mean(torch.square(centred), dim=-1, keepdim=True) + eps)
    scaled = normed * scale.to(wide.dtype)
    return (scaled if bias is None else scaled + bias.to(wide.dtype)).to(x.dtype)
