"""Mistakes in linear layers, norms and feed-forward networks."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from jax_transformer import config as c
from parity_tests.mutations.mutation import Mutation, on_forward, replacing
from torch_reference.nn import heads as heads_file
from torch_reference.nn import norm as norm_file
from torch_reference.nn.ffn.glu import Glu

_LAYER, _SECOND = "stack.layers.0", "stack.layers.1"


def _biases() -> list[Mutation]:
    tap_of = {f"{_LAYER}.attn.{name}_proj": f"{_LAYER}.attn.{name}$" for name in "qkv"}
    tap_of |= {f"{_LAYER}.attn.o_proj": f"{_LAYER}.attn$", f"{_LAYER}.ffn.down_proj": f"{_LAYER}.ffn$"}
    tap_of |= {f"{_LAYER}.ffn.{name}_proj": f"{_LAYER}.ffn.hidden" for name in ("gate", "up")}
    tap_of |= {f"{_SECOND}.{name}": f"{_SECOND}.{name}" for name in ("attn_norm", "ffn_norm")}
    tap_of |= {"final_norm": "final_norm", "head": "logits"}
    return [
        Mutation(f"bias of {path} not used", "everything", patch=on_forward(path, _without_bias), first=f"forward {tap}")
        for path, tap in tap_of.items()
    ]


def _without_bias(module: Any, forward: Any, x: Tensor, *args: Any) -> Tensor:
    return forward(x, *args) - module.bias.reshape(getattr(module, "out_dims", (-1,)))


def _norms() -> list[Mutation]:
    first, second = f"forward {_LAYER}.attn_norm", f"forward {_SECOND}.attn_norm"
    paths = (f"{_LAYER}.attn_norm", f"{_LAYER}.ffn_norm", f"{_SECOND}.attn_norm", f"{_SECOND}.ffn_norm", "final_norm")
    scales = [
        Mutation(f"scale of {path} not used", "everything", patch=on_forward(path, _without_scale), first=f"forward {path}")
        for path in paths
    ]
    formulas = {
        "rms epsilon outside the root": ("rms_norm", _eps_outside, first),
        "rms norm subtracts the mean": ("rms_norm", _centred, first),
        "layer norm divides by n - 1": ("layer_norm", _unbiased, second),
        "layer norm keeps the mean": ("layer_norm", _uncentred, second),
    }
    return [
        *scales,
        *(
            Mutation(name, "everything", patch=replacing(norm_file, *change), first=tap)
            for name, (*change, tap) in formulas.items()
        ),
        Mutation("final norm left out", "everything", patch=on_forward("final_norm", _identity), first="forward final_norm"),
        Mutation("RMSNorm.kind", "square", (("final_norm", c.LayerNorm(eps=1e-3, bias=False)),), first="forward final_norm"),
    ]


def _without_scale(module: Any, forward: Any, x: Tensor) -> Tensor:
    bias = 0.0 if getattr(module, "bias", None) is None else module.bias
    return (forward(x) - bias) / module.weight + bias


def _identity(module: Any, forward: Any, x: Tensor) -> Tensor:
    return x


def _eps_outside(x: Tensor, scale: Tensor, eps: float, cast: str) -> Tensor:
    return x / (torch.sqrt(torch.mean(torch.square(x), dim=-1, keepdim=True)) + eps) * scale


def _centred(x: Tensor, scale: Tensor, eps: float, cast: str) -> Tensor:
    return functional.layer_norm(x, scale.shape, scale, None, eps)


def _unbiased(x: Tensor, scale: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    normed = (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True) + eps)
    return normed * scale + (0.0 if bias is None else bias)


def _uncentred(x: Tensor, scale: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    return functional.rms_norm(x, scale.shape, scale, eps) + (0.0 if bias is None else bias)


def _kernels() -> list[Mutation]:
    project = heads_file.project
    paths = [f"{_LAYER}.{name}_proj" for name in ("attn.q", "attn.k", "attn.v", "attn.o", "ffn.gate", "ffn.up", "ffn.down")]
    merged = on_forward(f"{_LAYER}.attn.o_proj", lambda module, forward, x: forward(x.transpose(-1, -2).reshape(x.shape)))
    swapped_project = replacing(heads_file, "project", lambda x, weight: project(x, weight.T))
    return [
        *(Mutation(f"{path} transposed", "square", patch=on_forward(path, _transposed)) for path in paths),
        Mutation("head transposed", "square", patch=swapped_project, first="forward logits"),
        Mutation(
            "gate and up swapped", "square", patch=replacing(Glu, "forward", _swapped), first=f"forward {_LAYER}.ffn.hidden"
        ),
        Mutation("heads merged in another order", "square", patch=merged, first=f"forward {_LAYER}.attn$"),
    ]


def _transposed(module: Any, forward: Any, x: Tensor) -> Tensor:
    batch = x.shape[: x.ndim - module.num_inputs]
    return functional.linear(x.reshape(*batch, -1), module.weight.T.to(x.dtype)).reshape(*batch, *module.out_dims)


def _swapped(self: Any, x: Tensor, context: Any, *, noise: Any, tap: Any) -> tuple[Tensor, None]:
    hidden = self.gate_proj(x) * self.activation(self.up_proj(x))
    tap("hidden", hidden)
    return self.down_proj(hidden), None


MODULE_MUTATIONS = [*_biases(), *_norms(), *_kernels()]
