"""Mistakes in who sees whom, where a token is, and what a cache holds."""

from typing import Any

import torch
from torch import Tensor

from jax_transformer import config as c
from parity_tests.mutations.mutation import Mutation, on_forward, replacing
from torch_reference.models import cache as cache_file
from torch_reference.nn.attention import kernel as kernel_file
from torch_reference.nn.attention.cache import KVCache
from torch_reference.ops import mask as mask_file
from torch_reference.ops.mask import Mask

_ATTN = "stack.layers.0.attn"
_MIXED = f"forward {_ATTN}.(probabilities|mixed)"
_ALLOWED = Mask.allowed
_ATTEND = kernel_file.softmax_attention
_WRITE = KVCache.write


def _tiled(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, Tensor]:
    groups = q.shape[2] // k.shape[2]
    return _ATTEND(q, k.repeat(1, 1, groups, 1), v.repeat(1, 1, groups, 1), *rest, **options)


def _wide_window(self: Mask, window: int | None = None, *rest: Any) -> Tensor:
    return _ALLOWED(self, None if window is None else window + 1, *rest)


def _leaking(self: Mask, window: int | None = None, *rest: Any) -> Tensor:
    return _ALLOWED(Mask(self.q_positions, self.k_positions, causal=self.causal), window, *rest)


def _padding_seen(self: Mask, window: int | None = None, *rest: Any) -> Tensor:
    if self.k_segments is None:
        return _ALLOWED(self, window, *rest)
    return _ALLOWED(self, window, *rest) | (_leaking(self, window, *rest) & torch.eq(self.k_segments, 0)[:, None, :])


def _padding_sees(self: Mask, window: int | None = None, *rest: Any) -> Tensor:
    if self.q_segments is None:
        return _ALLOWED(self, window, *rest)
    both = torch.eq(self.q_segments, 0)[:, :, None] & torch.eq(self.k_segments, 0)[:, None, :]
    return _ALLOWED(self, window, *rest) | (_leaking(self, window, *rest) & both)


def _early_chunks(self: Mask, *sight: Any) -> Tensor:
    return _ALLOWED(Mask(self.q_positions + 1, self.k_positions + 1, self.q_segments, self.k_segments), *sight)


def _future_seen(self: Mask, window: int | None = None, *rest: Any) -> Tensor:
    seen = _ALLOWED(self, window, *rest)
    return seen | seen.transpose(1, 2) if seen.shape[1] == seen.shape[2] else seen


def _running(segments: Tensor) -> Tensor:
    return torch.arange(segments.shape[1], dtype=torch.int32).expand(segments.shape)


def _masks() -> list[Mutation]:
    wrong = {
        "window one more in the code": _wide_window,
        "mask leaks across segments": _leaking,
        "padding is seen": _padding_seen,
        "padding sees padding": _padding_sees,
        "future is seen": _future_seen,
    }
    return [
        *(
            Mutation(name, "everything", patch=replacing(Mask, "allowed", change), first=_MIXED)
            for name, change in wrong.items()
        ),
        Mutation("chunks begin one early", "chunks", patch=replacing(Mask, "allowed", _early_chunks), first=_MIXED),
    ]


def _positions() -> list[Mutation]:
    running = replacing(mask_file, "segment_positions", _running)
    nowhere = (("stack.pattern.0.attention.position", c.NoPosition()),)
    rolled = on_forward(f"{_ATTN}.v_proj", lambda module, forward, x: forward(x).roll(1, -1))
    return [
        Mutation("positions do not restart", "everything", patch=running, first=f"forward {_ATTN}.q"),
        Mutation("Rope.kind", "square", nowhere, first=f"forward {_ATTN}.q"),
        Mutation("values moved within a head", "square", patch=rolled, first=f"forward {_ATTN}.v"),
        Mutation("kv heads tiled", "everything", patch=replacing(kernel_file, "softmax_attention", _tiled), first=_MIXED),
    ]


def _decoding() -> list[Mutation]:
    def later(q: Tensor, k: Tensor, *segments: Tensor) -> Mask:
        return Mask(q + 1, k, *segments)

    def blind(q: Tensor, k: Tensor, *segments: Tensor) -> Mask:
        return Mask(q, k, *(torch.ones_like(segment) for segment in segments))

    writes = {
        "cache slot off by one": lambda self, keys, values, at: _WRITE(self, keys, values, at + 1),
        "cache loses values": lambda self, keys, values, at: _WRITE(self, keys, 0 * values, at),
        "cache forgets": lambda self, keys, values, at: _WRITE(KVCache.empty(self.keys.shape, keys.dtype), keys, values, at),
    }
    masks = {"decode position off by one": later, "empty and padded slots seen": blind}
    first = "decode decoded across"
    return [
        *(
            Mutation(name, "everything", patch=replacing(KVCache, "write", change), first=first)
            for name, change in writes.items()
        ),
        *(
            Mutation(name, "everything", patch=replacing(cache_file, "Mask", change), first=first)
            for name, change in masks.items()
        ),
    ]


ATTENTION_MUTATIONS = [*_masks(), *_positions(), *_decoding()]
