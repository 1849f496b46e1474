"""Attention over complex queries and keys."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer import config
from jax_transformer.nn.attention.cache import KVCache
from jax_transformer.nn.attention.kernel import attend
from jax_transformer.nn.context import Context
from jax_transformer.nn.linear import Linear
from jax_transformer.nn.params import Maker
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.complex_rotation import complex_frequencies, rotate_complex
from jax_transformer.ops.constrain import constrain
from jax_transformer.ops.dropout import Noise


class ComplexAttention(nnx.Module):
    """Multi-head attention whose scores are ``Re(q conj(k))``, the real dot product of ``[re, im]`` with ``[re, im]``."""

    def __init__(self, c: config.Complex, d_model: int, make: Maker):
        model, heads = {"embed": d_model}, {"heads": c.num_heads, "head_dim": c.head_dim}
        self.q_re_proj = Linear(model, heads, make, bias=c.qkv_bias)
        self.q_im_proj = Linear(model, heads, make, bias=c.qkv_bias)
        self.k_re_proj = Linear(model, heads, make, bias=c.qkv_bias)
        self.k_im_proj = Linear(model, heads, make, bias=c.qkv_bias)
        self.v_proj = Linear(model, heads, make, bias=c.qkv_bias)
        self.o_proj = Linear(heads, model, make, bias=c.o_bias, std=make.residual_std)
        self.config = c
        self.compute_dtype = make.dtype.compute

    def __call__(
        self,
        x: Float[Array, "B T D"],
        context: Context,
        *,
        noise: Noise | None = None,
        cache: tuple[KVCache, Int[Array, ""]] | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        """Mix positions. ``cache`` is what this layer remembers and the slot where the new tokens go."""
        c, positions = self.config, context.mask.q_positions
        q = self._rotated(self.q_re_proj(x), self.q_im_proj(x), positions)
        k = self._rotated(self.k_re_proj(x), self.k_im_proj(x), positions)
        v = self.v_proj(x)
        q = constrain(q, "batch", None, "heads", None)
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
        return KVCache.empty((batch, length, c.num_heads, 2 * c.head_dim), self.compute_dtype, c.head_dim)

    def _rotated(
        self, re: Float[Array, "B T N H"], im: Float[Array, "B T N H"], positions: Int[Array, "#B T"]
    ) -> Float[Array, "B T N 2*H"]:
        if self.config.rope_base is not None:
            frequencies = complex_frequencies(self.config.rope_base, self.config.head_dim)
            re, im = rotate_complex(re, im, positions, frequencies)
        return jnp.concatenate([re, im], axis=-1)
