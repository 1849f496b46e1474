"""Element-wise nonlinearities: those without parameters by the names that the config uses, then the others."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from torch_reference.ops.precision import at_least_float32

XIELU_BETA = 0.5
"""Slope of xIELU at 0; its ``alpha_n`` counts from here."""

_XIELU_EPS = -1e-6


def quick_gelu(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``x sigmoid(1.702 x)``, the coarse approximation of GELU in CLIP."""
    return x * torch.sigmoid(1.702 * x)


def relu2(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``max(x, 0)^2`` (https://arxiv.org/abs/2109.08668)."""
    return torch.square(functional.relu(x))


ACTIVATION: dict[str, Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]] = {
    "silu": functional.silu,
    "gelu_erf": partial(functional.gelu, approximate="none"),
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "quick_gelu": quick_gelu,
    "sigmoid": torch.sigmoid,
    "relu": functional.relu,
    "relu2": relu2,
    "tanh": torch.tanh,
}
"""``silu`` x sigmoid(x); ``gelu_erf`` x Phi(x); ``gelu_tanh`` its tanh approximation; ``relu`` max(x, 0)."""


def xielu(x: Float[Tensor, "..."], alpha_p: Float[Tensor, "1"], alpha_n: Float[Tensor, "1"]) -> Float[Tensor, "..."]:
    """``a x^2 + x / 2`` for ``x > 0``, else ``b (exp(x) - 1 - x) + x / 2``, with ``a = softplus(alpha_p)`` and
    ``b = 1 / 2 + softplus(alpha_n)`` (https://arxiv.org/abs/2411.13010).

    Computed in float32 at least: ``exp(x) - 1 - x`` cancels. The exponent stops at -1e-6, as in transformers.
    """
    wide = x.to(at_least_float32(x.dtype))
    a = functional.softplus(alpha_p.to(wide.dtype))
    b = XIELU_BETA + functional.softplus(alpha_n.to(wide.dtype))
    curve = torch.expm1(torch.where(wide < _XIELU_EPS, wide, _XIELU_EPS)) - wide
    y = torch.where(wide > 0, a * torch.square(wide), b * curve) + XIELU_BETA * wide
    return y.to(x.dtype)


def clamped_swiglu(gate: Float[Tensor, "*B F"], up: Float[Tensor, "*B F"], limit: float, alpha: float) -> Float[Tensor, "*B F"]:
    """``g sigmoid(alpha g) (u + 1)`` with ``g = min(gate, limit)`` and ``u = up`` clamped to ``[-limit, limit]`` (gpt-oss)."""
    gate = torch.clamp(gate, max=limit)
    up = torch.clamp(up, min=-limit, max=limit)
    return (up + 1.0) * (gate * torch.sigmoid(alpha * gate))
