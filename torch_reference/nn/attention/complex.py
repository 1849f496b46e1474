"""Attention over complex queries and keys."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.attention.cache import KVCache
from torch_reference.nn.attention.kernel import attend
from torch_reference.nn.context import Context
from torch_reference.nn.linear import Linear
from torch_reference.nn.params import Maker
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.complex_rotation import complex_frequencies, rotate_complex
from torch_reference.ops.dropout import Noise


class ComplexAttention(nn.Module):
    """Multi-head attention whose scores are ``Re(q conj(k))``, the real dot product of ``[re, im]`` with ``[re, im]``."""

    def __init__(self, c: config.Complex, d_model: int, make: Maker):
        super().__init__()
        model, heads = {"embed": d_model}, {"heads": c.num_heads, "head_dim": c.head_dim}
        self.q_re_proj = Linear(model, heads, make, bias=c.qkv_bias)
        self.q_im_proj = Linear(model, heads, make, bias=c.qkv_bias)
        self.k_re_proj = Linear(model, heads, make, bias=c.qkv_bias)
        self.k_im_proj = Linear(model, heads, make, bias=c.qkv_bias)
        self.v_proj = Linear(model, heads, make, bias=c.qkv_bias)
        self.o_proj = Linear(heads, model, make, bias=c.o_bias, std=make.residual_std)
        self.config = c
        self.compute_dtype = getattr(torch, make.dtype.compute)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context,
        *,
        noise: Noise | None = None,
        cache: tuple[KVCache, Int[Tensor, ""]] | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Tensor, "B T D"], KVCache | None]:
        """Mix positions. ``cache`` is what this layer remembers and the slot where the new tokens go."""
        c, positions = self.config, context.mask.q_positions
        q = self._rotated(self.q_re_proj(x), self.q_im_proj(x), positions)
        k = self._rotated(self.k_re_proj(x), self.k_im_proj(x), positions)
        v = self.v_proj(x)
        for name, value in (("q", q), ("k", k), ("v", v)):
            tap(name, value)
        memory = None
        if cache is not None:
            memory = cache[0].write(k, v, cache[1])
            k, v = memory.keys, memory.values
        mixed = attend(c, q, k, v, context.mask, noise=noise, cached=cache is not None, tap=tap)
        tap("mixed", mixed)
        return self.o_proj(mixed), memory

    def empty_cache(self, batch: int, length: int) -> KVCache:
        """Room for ``length`` tokens in each of ``batch`` rows."""
        c = self.config
        shape = (batch, length, c.num_heads, 2 * c.head_dim)
        return KVCache.empty(shape, self.compute_dtype, c.head_dim, self.v_proj.weight.device)

    def _rotated(
        self, re: Float[Tensor, "B T N H"], im: Float[Tensor, "B T N H"], positions: Int[Tensor, "#B T"]
    ) -> Float[Tensor, "B T N 2*H"]:
        if self.config.rope_base is not None:
            frequencies = complex_frequencies(self.config.rope_base, self.config.head_dim)
            re, im = rotate_complex(re, im, positions, frequencies)
        return torch.cat([re, im], dim=-1)
