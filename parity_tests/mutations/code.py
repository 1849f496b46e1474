"""Mistakes in the code of the model."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jax_transformer import config as c
from parity_tests import torch_side
from parity_tests.mutations.mutation import Mutation, on_forward, on_model, replacing
from torch_reference.models import decoder as decoder_file
from torch_reference.nn import block as block_file
from torch_reference.nn import linear as linear_file
from torch_reference.nn import norm as norm_file
from torch_reference.nn import params as params_file
from torch_reference.nn.attention import cache as cache_file
from torch_reference.nn.attention import softmax as softmax_file
from torch_reference.nn.ffn import glu as glu_file
from torch_reference.ops import mask as mask_file
from torch_reference.ops.activation import ACTIVATION

_LAYER = "stack.layers.0"
_MASK = mask_file.Mask


def _without_bias(module: nn.Module, forward: Any, x: Tensor, *args: Any) -> Tensor:
    y = forward(x, *args)
    return y - module.bias.reshape(y.shape[-y.ndim + x.ndim - 1 :] if module.bias.numel() != y.shape[-1] else (-1,))


def _without_scale(module: nn.Module, forward: Any, x: Tensor) -> Tensor:
    bias = 0.0 if getattr(module, "bias", None) is None else module.bias
    return (forward(x) - bias) / module.weight + bias


def _biases() -> list[Mutation]:
    linear = {f"{_LAYER}.attn.{name}_proj": f"forward {_LAYER}.attn.{name}$" for name in "qkv"}
    linear |= {f"{_LAYER}.attn.o_proj": f"forward {_LAYER}.attn$", f"{_LAYER}.ffn.gate_proj": f"forward {_LAYER}.ffn.hidden"}
    linear |= {f"{_LAYER}.ffn.up_proj": f"forward {_LAYER}.ffn.hidden", f"{_LAYER}.ffn.down_proj": f"forward {_LAYER}.ffn$"}
    norms = {"stack.layers.1.attn_norm": "forward stack.layers.1.attn_norm", "stack.layers.1.ffn_norm": "forward stack.layers.1.ffn_norm"}
    others = norms | {"final_norm": "forward final_norm", "head": "forward logits"}
    return [
        Mutation(f"bias of {path} not used", "everything", patch=on_forward(path, _bias_skipped), first=first)
        for path, first in (linear | others).items()
    ]


def _bias_skipped(module: nn.Module, forward: Any, x: Tensor, *args: Any) -> Tensor:
    y = forward(x, *args)
    return y - module.bias.reshape(getattr(module, "out_dims", (-1,)))


def _norms() -> list[Mutation]:
    def eps_outside(x: Tensor, scale: Tensor, eps: float) -> Tensor:
        return x / (torch.sqrt(torch.mean(torch.square(x), dim=-1, keepdim=True)) + eps) * scale

    def centred(x: Tensor, scale: Tensor, eps: float) -> Tensor:
        return functional.layer_norm(x, scale.shape, scale, None, eps)

    def unbiased(x: Tensor, scale: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True) + eps) * scale + (0.0 if bias is None else bias)

    scales = [f"{_LAYER}.attn_norm", f"{_LAYER}.ffn_norm", "stack.layers.1.attn_norm", "final_norm"]
    return [
        *(Mutation(f"scale of {path} not used", "everything", patch=on_forward(path, _without_scale), first=f"forward {path}") for path in scales),
        Mutation("rms epsilon outside the root", "everything", patch=replacing(norm_file, "rms_norm", eps_outside), first=f"forward {_LAYER}.attn_norm"),
        Mutation("rms norm subtracts the mean", "everything", patch=replacing(norm_file, "rms_norm", centred), first=f"forward {_LAYER}.attn_norm"),
        Mutation("layer norm divides by n - 1", "everything", patch=replacing(norm_file, "layer_norm", unbiased), first="forward stack.layers.1.attn_norm"),
        Mutation("final norm left out", "everything", patch=on_forward("final_norm", lambda module, forward, x: x), first="forward final_norm"),
        Mutation("RMSNorm.kind", "square", (("final_norm", c.LayerNorm(eps=1e-3, bias=False)),), first="forward final_norm"),
    ]


def _kernels() -> list[Mutation]:
    def transposed(module: nn.Module, forward: Any, x: Tensor) -> Tensor:
        batch = x.shape[: x.ndim - module.num_inputs]
        return functional.linear(x.reshape(*batch, -1), module.weight.T).reshape(*batch, *module.out_dims)

    paths = [f"{_LAYER}.{name}_proj" for name in ("attn.q", "attn.k", "attn.v", "attn.o", "ffn.gate", "ffn.up", "ffn.down")]
    project = linear_file.project
    swapped_project = replacing(torch_reference_heads(), "project", lambda x, weight: project(x, weight.T))
    return [
        *(Mutation(f"{path} transposed", "square", patch=on_forward(path, transposed)) for path in paths),
        Mutation("head transposed", "square", patch=swapped_project, first="forward logits"),
        Mutation("gate and up swapped", "square", patch=replacing(glu_file.Glu, "forward", _swapped_glu), first=f"forward {_LAYER}.ffn.hidden"),
        Mutation("heads merged in another order", "square", patch=on_forward(f"{_LAYER}.attn.o_proj", _other_merge), first=f"forward {_LAYER}.attn$"),
    ]


def torch_reference_heads() -> Any:
    """The module that holds the head."""
    from torch_reference.nn import heads

    return heads


def _swapped_glu(self: Any, x: Tensor, tap: Any) -> Tensor:
    hidden = self.gate_proj(x) * ACTIVATION[self.activation](self.up_proj(x))
    tap("hidden", hidden)
    return self.down_proj(hidden)


def _other_merge(module: nn.Module, forward: Any, x: Tensor) -> Tensor:
    return forward(x.transpose(-1, -2).reshape(x.shape))


def _attention() -> list[Mutation]:
    attend = softmax_file.softmax_attention

    def tiled(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        groups = q.shape[2] // k.shape[2]
        return attend(q, k.repeat(1, 1, groups, 1), v.repeat(1, 1, groups, 1), *rest)

    def inclusive(self: Any, window: int | None = None) -> Tensor:
        return _MASK(self.q_positions, self.k_positions, self.q_segments, self.k_segments).allowed(None if window is None else window + 1)

    def leaking(self: Any, window: int | None = None) -> Tensor:
        return _ALLOWED(_MASK(self.q_positions, self.k_positions), window)

    def seen_padding(self: Any, window: int | None = None) -> Tensor:
        seen = _ALLOWED(self, window)
        if self.k_segments is None:
            return seen
        return seen | (_ALLOWED(_MASK(self.q_positions, self.k_positions), window) & (self.k_segments == 0)[:, None, :])

    def running(segments: Tensor) -> Tensor:
        return torch.arange(segments.shape[1], dtype=torch.int32).expand(segments.shape)

    mixed = f"forward {_LAYER}.attn.mixed"
    return [
        Mutation("kv heads tiled, not repeated", "everything", patch=replacing(softmax_file, "softmax_attention", tiled), first=mixed),
        Mutation("mask leaks across segments", "everything", patch=replacing(_MASK, "allowed", leaking), first=mixed),
        Mutation("padding is seen", "everything", patch=replacing(_MASK, "allowed", seen_padding), first=mixed),
        Mutation("positions do not restart", "everything", patch=replacing(mask_file, "segment_positions", running), first=f"forward {_LAYER}.attn.q"),
        Mutation("future is seen", "square", patch=replacing(_MASK, "allowed", _symmetric), first=mixed),
        Mutation("Rope.kind", "square", (("stack.pattern.0.attention.position", c.NoPosition()),), first=f"forward {_LAYER}.attn.q"),
        Mutation("values rotated too", "square", patch=on_forward(f"{_LAYER}.attn.v_proj", _shifted), first=f"forward {_LAYER}.attn.v"),
    ]


_ALLOWED = mask_file.Mask.allowed


def _symmetric(self: Any, window: int | None = None) -> Tensor:
    seen = _ALLOWED(self, window)
    return seen | seen.transpose(1, 2) if seen.shape[1] == seen.shape[2] else seen


def _shifted(module: nn.Module, forward: Any, x: Tensor) -> Tensor:
    return forward(x).roll(1, -1)


def _wiring() -> list[Mutation]:
    output, add = f"forward {_LAYER}.", block_file.add_branch

    def detached_attend(self: Any, x: Tensor) -> Tensor:
        return linear_file.project(x, self.weight.detach().to(x.dtype))

    def other_attend(self: Any, x: Tensor) -> Tensor:
        return linear_file.project(x, self.weight.flip(0).to(x.dtype))

    def scaled_embed(module: nn.Module, forward: Any, ids: Tensor) -> Tensor:
        return forward(ids) * module.weight.shape[1] ** 0.5

    def parallel(x: Tensor, branch: Tensor, *rest: Any) -> Tensor:
        return add(x, branch.detach(), *rest)

    return [
        Mutation("residual left out", "everything", patch=replacing(block_file, "add_branch", lambda x, branch, *rest: branch), first=output),
        Mutation("branch left out", "everything", patch=replacing(block_file, "add_branch", lambda x, branch, *rest: x + 0 * branch), first=output),
        Mutation("branch added twice", "everything", patch=replacing(block_file, "add_branch", lambda x, branch, *rest: x + 2 * branch), first=output),
        Mutation("branch cut from the backward pass", "everything", patch=replacing(block_file, "add_branch", parallel), first="gradient"),
        Mutation("tied head does not train the embedding", "everything", patch=replacing(linear_file.Embed, "attend", detached_attend), first="gradient embed.weight"),
        Mutation("head tied to another matrix", "everything", patch=replacing(linear_file.Embed, "attend", other_attend), first="forward logits"),
        Mutation("embedding scaled", "everything", patch=on_forward("embed", scaled_embed), first="forward embed"),
        Mutation("two layers swapped", "square", patch=on_model(_swap_layers), first="forward"),
    ]


def _swap_layers(model: nn.Module) -> None:
    layers = model.stack.layers
    first, last = layers[0].forward, layers[2].forward
    layers[0].forward, layers[2].forward = last, first


def _loss() -> list[Mutation]:
    weights, entropy = torch_side.next_token_weights, torch_side.cross_entropy
    wrong = {
        "loss counts padding": ("next_token_weights", lambda segments: torch.ones_like(weights(segments))),
        "loss counts the start of documents": ("next_token_weights", lambda segments: (segments[:, 1:] != 0).float()),
        "loss counts the end of documents": ("next_token_weights", lambda segments: (segments[:, :-1] != 0).float()),
        "targets not shifted": ("cross_entropy", lambda logits, targets, counted: entropy(logits, targets.roll(1, 1), counted)),
        "loss in bits": ("cross_entropy", lambda *args: entropy(*args) / 0.6931471805599453),
    }
    return [Mutation(name, "everything", patch=replacing(torch_side, *change), first="forward loss") for name, change in wrong.items()]


def _decoding() -> list[Mutation]:
    store = cache_file.store

    def later(q: Tensor, k: Tensor, *segments: Tensor) -> Any:
        return _MASK(q + 1, k, *segments)

    def blind(q: Tensor, k: Tensor, q_segments: Tensor, k_segments: Tensor) -> Any:
        return _MASK(q, k, torch.ones_like(q_segments), torch.ones_like(k_segments))

    def no_values(self: Any, keys: Tensor, values: Tensor, at: Tensor) -> Any:
        return cache_file.KVCache(store(self.keys, keys, at), store(self.values, 0 * values, at))

    decode = "decode decoded across"
    return [
        Mutation("decode position off by one", "everything", patch=replacing(decoder_file, "Mask", later), first=decode),
        Mutation("cache slot off by one", "everything", patch=replacing(cache_file, "store", lambda slots, new, at: store(slots, new, at + 1)), first=decode),
        Mutation("empty and padded slots seen", "everything", patch=replacing(decoder_file, "Mask", blind), first=decode),
        Mutation("cache loses values", "square", patch=replacing(cache_file.KVCache, "write", no_values), first=decode),
    ]


def _initial() -> list[Mutation]:
    zeros = lambda self, value, shape: nn.Parameter(torch.zeros(shape, dtype=getattr(torch, self.dtype.param)))  # noqa: E731
    return [Mutation("norm scales start at zero", "everything", patch=replacing(params_file.Maker, "constant", zeros), first="init")]


CODE_MUTATIONS = [*_biases(), *_norms(), *_kernels(), *_attention(), *_wiring(), *_loss(), *_decoding(), *_initial()]
