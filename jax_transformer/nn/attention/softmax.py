"""Softmax attention of a sequence over itself, with grouped key/value heads."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer import config
from jax_transformer.nn.attention.cache import KVCache
from jax_transformer.nn.attention.kernel import attend
from jax_transformer.nn.attention.multi_head import MultiHead
from jax_transformer.nn.attention.query_key import norm_heads, temper_queries
from jax_transformer.nn.context import Context
from jax_transformer.nn.linear import Linear
from jax_transformer.nn.params import Maker
from jax_transformer.nn.position import POSITION
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.constrain import constrain
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.mask import Mask


class SoftmaxAttention(MultiHead):
    """Multi-head, grouped-query or multi-query attention over positions."""

    def __init__(self, c: config.Softmax, d_model: int, make: Maker):
        super().__init__(c, d_model, d_model, make)
        self.config = c
        self.position = POSITION[type(c.position)](c.position, (c.num_heads, c.head_dim), make)

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
        c, mask = self.config, context.mask
        q = self._place(self._project(self.q_proj, x), self.q_norm, mask)
        k = self._place(self._project(self.k_proj, x), self.k_norm, mask)
        v = self._project(self.v_proj, x)
        if c.query_temperature is not None:
            q = temper_queries(q, mask.q_positions, c.query_temperature)
        q = constrain(q, "batch", None, "heads", None)
        for name, value in (("q", q), ("k", k), ("v", v)):
            tap(name, value)
        memory = None
        if cache is not None:
            memory = cache[0].write(k, v, cache[1])
            k, v = memory.keys, memory.values
        sinks = None if self.sinks is None else self.sinks[...]
        options = {"bias": self.position.bias(context), "sinks": sinks, "noise": noise, "cached": cache is not None}
        mixed = attend(c, q, k, v, mask, **options, tap=tap)
        tap("mixed", mixed)
        return self.output(mixed, x, tap), memory

    def empty_cache(self, batch: int, length: int) -> KVCache:
        """Room for ``length`` tokens in each of ``batch`` rows."""
        return KVCache.empty((batch, length, self.config.kv_heads, self.config.head_dim), self.compute_dtype)

    def _project(self, projection: Linear, x: Float[Array, "B T D"]) -> Float[Array, "B T N H"]:
        heads, limit = projection(x), self.config.clip_qkv
        return heads if limit is None else jnp.clip(heads, -limit, limit)

    def _place(self, heads: Float[Array, "B T N H"], norm: nnx.Module | None, mask: Mask) -> Float[Array, "B T N H"]:
        """Norm and rotation of queries or keys, in the order that the config asks for."""
        c = self.config.qk_norm
        if c is not None and c.place == "after_rope":
            return norm_heads(norm, self.position.rotate(heads, mask), c)
        return self.position.rotate(norm_heads(norm, heads, c), mask)
