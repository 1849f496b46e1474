"""Linear attention (Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from jax_transformer.config.linear_time import token_by_token
from torch_reference.nn.attention.cache import LinearCache
from torch_reference.nn.context import Context
from torch_reference.nn.linear import Linear
from torch_reference.nn.params import Maker
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.dropout import Noise
from torch_reference.ops.linear_attention.chunked import chunked_bidirectional_linear_attention, chunked_linear_attention
from torch_reference.ops.linear_attention.recurrent import recurrent_linear_attention
from torch_reference.ops.linear_attention.reference import linear_attention
from torch_reference.ops.mask import Mask


class LinearAttention(nn.Module):
    """Multi-head, grouped-query or multi-query attention with weights ``phi(q) . phi(k)`` and no softmax."""

    def __init__(self, c: config.Linear, d_model: int, make: Maker):
        super().__init__()
        model, heads, kv_heads = {"embed": d_model}, {"heads": c.num_heads}, {"kv_heads": c.kv_heads}
        key, value = {"head_dim": c.head_dim}, {"head_dim": c.value_dim}
        self.q_proj = Linear(model, heads | key, make, bias=c.qkv_bias)
        self.k_proj = Linear(model, kv_heads | key, make, bias=c.qkv_bias)
        self.v_proj = Linear(model, kv_heads | value, make, bias=c.qkv_bias)
        self.o_proj = Linear(heads | value, model, make, bias=c.o_bias, std=make.residual_std)
        self.config = c
        self.compute_dtype = getattr(torch, make.dtype.compute)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context,
        *,
        noise: Noise | None = None,
        cache: tuple[LinearCache, Int[Tensor, ""]] | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Tensor, "B T D"], LinearCache | None]:
        """Mix positions. ``cache`` is what this layer remembers; the slot beside it and ``noise`` mean nothing here."""
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        for name, value in (("q", q), ("k", k), ("v", v)):
            tap(name, value)
        mixed, memory = self._mix(q, k, v, context.mask, None if cache is None else cache[0])
        tap("mixed", mixed)
        return self.o_proj(mixed), memory

    def empty_cache(self, batch: int, length: int) -> LinearCache:
        """The sums over no token in each of ``batch`` rows, whatever the ``length``."""
        c = self.config
        shape = (batch, c.kv_heads, c.head_dim, c.value_dim)
        return LinearCache.empty(shape, self.compute_dtype, self.v_proj.weight.device)

    def _mix(
        self,
        q: Float[Tensor, "B T N H"],
        k: Float[Tensor, "B T K H"],
        v: Float[Tensor, "B T K V"],
        mask: Mask,
        memory: LinearCache | None,
    ) -> tuple[Float[Tensor, "B T N V"], LinearCache | None]:
        """The form that the config asks for; only a causal one has a memory."""
        c, segments = self.config, mask.q_segments
        if c.implementation == "reference" and memory is None:
            return linear_attention(q, k, v, mask.allowed(), c.eps), None
        if not mask.causal:
            return chunked_bidirectional_linear_attention(q, k, v, segments=segments, eps=c.eps, chunk=c.chunk), None
        state = None if memory is None else (memory.sums, memory.norms)
        if token_by_token(c, q.shape[1]):
            mixed, state = recurrent_linear_attention(q, k, v, segments=segments, state=state, eps=c.eps)
        else:
            mixed, state = chunked_linear_attention(q, k, v, segments=segments, state=state, eps=c.eps, chunk=c.chunk)
        return mixed, None if memory is None else LinearCache(*state)
