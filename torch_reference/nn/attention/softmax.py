"""Softmax attention with grouped key/value heads."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.attention.cache import KVCache
from torch_reference.nn.linear import Linear
from torch_reference.nn.params import Maker
from torch_reference.nn.position import POSITION
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.attention.reference import softmax_attention
from torch_reference.ops.dropout import Noise
from torch_reference.ops.mask import Mask


class SoftmaxAttention(nn.Module):
    """Multi-head, grouped-query or multi-query attention over positions."""

    def __init__(self, c: config.Softmax, d_model: int, make: Maker):
        super().__init__()
        model, head = {"embed": d_model}, {"head_dim": c.head_dim}
        self.q_proj = Linear(model, {"heads": c.num_heads} | head, make, bias=c.qkv_bias)
        self.k_proj = Linear(model, {"kv_heads": c.kv_heads} | head, make, bias=c.qkv_bias)
        self.v_proj = Linear(model, {"kv_heads": c.kv_heads} | head, make, bias=c.qkv_bias)
        self.o_proj = Linear({"heads": c.num_heads} | head, model, make, bias=c.o_bias, std=make.residual_std)
        self.position = POSITION[type(c.position)](c.position, c.head_dim)
        self.config = c
        self.compute_dtype = getattr(torch, make.dtype.compute)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Mask,
        *,
        noise: Noise | None = None,
        cache: tuple[KVCache, Int[Tensor, ""]] | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Tensor, "B T D"], KVCache | None]:
        """Mix positions. ``cache`` is what this layer remembers and the slot where the new tokens go."""
        q = self.position(self.q_proj(x), mask.q_positions)
        k, v = self.position(self.k_proj(x), mask.q_positions), self.v_proj(x)
        for name, value in (("q", q), ("k", k), ("v", v)):
            tap(name, value)
        memory = None
        if cache is not None:
            memory = cache[0].write(k, v, cache[1])
            k, v = memory.keys, memory.values
        drop = (self.config.dropout, noise)
        mixed = softmax_attention(q, k, v, mask.allowed(self.config.window), self.config.score_scale, drop)
        tap("mixed", mixed)
        return self.o_proj(mixed), memory

    def empty_cache(self, batch: int, length: int) -> KVCache:
        """Room for ``length`` tokens in each of ``batch`` rows."""
        shape = (batch, length, self.config.kv_heads, self.config.head_dim)
        return KVCache.empty(shape, self.compute_dtype, self.q_proj.weight.device)
