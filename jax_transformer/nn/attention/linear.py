"""Linear attention (Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236)."""

from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer import config
from jax_transformer.config.linear_time import token_by_token
from jax_transformer.nn.attention.cache import LinearCache
from jax_transformer.nn.context import Context
from jax_transformer.nn.linear import Linear
from jax_transformer.nn.params import Maker
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.constrain import constrain
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.linear_attention.chunked import chunked_bidirectional_linear_attention, chunked_linear_attention
from jax_transformer.ops.linear_attention.recurrent import recurrent_linear_attention
from jax_transformer.ops.linear_attention.reference import linear_attention
from jax_transformer.ops.mask import Mask


class LinearAttention(nnx.Module):
    """Multi-head, grouped-query or multi-query attention with weights ``phi(q) . phi(k)`` and no softmax."""

    def __init__(self, c: config.Linear, d_model: int, make: Maker):
        model, heads, kv_heads = {"embed": d_model}, {"heads": c.num_heads}, {"kv_heads": c.kv_heads}
        key, value = {"head_dim": c.head_dim}, {"head_dim": c.value_dim}
        self.q_proj = Linear(model, heads | key, make, bias=c.qkv_bias)
        self.k_proj = Linear(model, kv_heads | key, make, bias=c.qkv_bias)
        self.v_proj = Linear(model, kv_heads | value, make, bias=c.qkv_bias)
        self.o_proj = Linear(heads | value, model, make, bias=c.o_bias, std=make.residual_std)
        self.config = c
        self.compute_dtype = make.dtype.compute

    def __call__(
        self,
        x: Float[Array, "B T D"],
        context: Context,
        *,
        noise: Noise | None = None,
        cache: tuple[LinearCache, Int[Array, ""]] | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Array, "B T D"], LinearCache | None]:
        """Mix positions. ``cache`` is what this layer remembers; the slot beside it and ``noise`` mean nothing here."""
        q = constrain(self.q_proj(x), "batch", None, "heads", None)
        k, v = self.k_proj(x), self.v_proj(x)
        for name, value in (("q", q), ("k", k), ("v", v)):
            tap(name, value)
        mixed, memory = self._mix(q, k, v, context.mask, None if cache is None else cache[0])
        tap("mixed", mixed)
        return self.o_proj(mixed), memory

    def empty_cache(self, batch: int, length: int) -> LinearCache:
        """The sums over no token in each of ``batch`` rows, whatever the ``length``."""
        c = self.config
        return LinearCache.empty((batch, c.kv_heads, c.head_dim, c.value_dim), self.compute_dtype)

    def _mix(
        self,
        q: Float[Array, "B T N H"],
        k: Float[Array, "B T K H"],
        v: Float[Array, "B T K V"],
        mask: Mask,
        memory: LinearCache | None,
    ) -> tuple[Float[Array, "B T N V"], LinearCache | None]:
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
