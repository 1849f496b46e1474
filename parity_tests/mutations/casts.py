"""Roundings at another place: invisible in float64, and hardly larger than rounding itself."""

from typing import Any

import torch
from torch import Tensor

from parity_tests.mutations.mutation import Mutation, replacing
from torch_reference.nn import norm as norm_file
from torch_reference.nn import position as position_file
from torch_reference.nn.attention import kernel as kernel_file

_NORM, _ATTN = "casts stack.layers.0.attn_norm", "casts stack.layers.0.attn"


def _cast_last(x: Tensor, scale: Tensor, eps: float, cast: str) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * scale.to(wide.dtype)).to(x.dtype)


def _narrow_rms(x: Tensor, scale: Tensor, eps: float, cast: str) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * scale.to(x.dtype)


def _narrow_layer(x: Tensor, scale: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    normed = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps) * scale.to(x.dtype)
    return normed if bias is None else normed + bias.to(x.dtype)


def _narrow_softmax(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float, **options: Any) -> tuple[Tensor, Tensor]:
    k, v = (x.repeat_interleave(q.shape[2] // k.shape[2], 2) for x in (k, v))
    scores = torch.einsum("BTNH,BSNH->BNTS", q, k) * scale
    seen = allowed[:, None]
    probabilities = torch.softmax(torch.where(seen, scores, torch.finfo(q.dtype).min), -1)
    probabilities = torch.where(seen, probabilities, 0.0)
    return torch.einsum("BNTS,BSNH->BTNH", probabilities.to(v.dtype), v), probabilities.to(
        torch.promote_types(q.dtype, torch.float32)
    )


_ROTATE = position_file.apply_rope


def _wide_rope(x: Tensor, *rest: Any) -> Tensor:
    return _ROTATE(x.to(torch.promote_types(x.dtype, torch.float32)), *rest).to(x.dtype)


CAST_MUTATIONS = [
    Mutation("rms scale before the cast", "everything", patch=replacing(norm_file, "rms_norm", _cast_last), first=_NORM),
    Mutation("rms norm in 16 bits", "everything", patch=replacing(norm_file, "rms_norm", _narrow_rms), first=_NORM),
    Mutation("layer norm in 16 bits", "square", patch=replacing(norm_file, "layer_norm", _narrow_layer), first=_NORM),
    Mutation(
        "softmax in 16 bits",
        "everything",
        patch=replacing(kernel_file, "softmax_attention", _narrow_softmax),
        first=f"{_ATTN}.mixed",
    ),
    Mutation("rotation in 32 bits", "square", patch=replacing(position_file, "apply_rope", _wide_rope), first=f"{_ATTN}.q"),
]
