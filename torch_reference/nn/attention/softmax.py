"""Softmax attention of a sequence over itself, with grouped key/value heads."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.attention.cache import KVCache
from torch_reference.nn.attention.kernel import attend
from torch_reference.nn.attention.multi_head import MultiHead
from torch_reference.nn.attention.query_key import norm_heads, temper_queries
from torch_reference.nn.context import Context
from torch_reference.nn.linear import Linear
from torch_reference.nn.params import Maker
from torch_reference.nn.position import POSITION
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.dropout import Noise
from torch_reference.ops.mask import Mask


class SoftmaxAttention(MultiHead):
    """Multi-head, grouped-query or multi-query attention over positions."""

    def __init__(self, c: config.Softmax, d_model: int, make: Maker):
        super().__init__(c, d_model, d_model, make)
        self.config = c
        self.position = POSITION[type(c.position)](c.position, (c.num_heads, c.head_dim), make)

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
        c, mask = self.config, context.mask
        q = self._place(self._project(self.q_proj, x), self.q_norm, mask)
        k = self._place(self._project(self.k_proj, x), self.k_norm, mask)
        v = self._project(self.v_proj, x)
        if c.query_temperature is not None:
            q = temper_queries(q, mask.q_positions, c.query_temperature)
        for name, value in (("q", q), ("k", k), ("v", v)):
            tap(name, value)
        memory = None
        if cache is not None:
            memory = cache[0].write(k, v, cache[1])
            k, v = memory.keys, memory.values
        options = {"bias": self.position.bias(context), "sinks": self.sinks, "noise": noise, "cached": cache is not None}
        mixed = attend(c, q, k, v, mask, **options, tap=tap)
        tap("mixed", mixed)
        return self.output(mixed, x, tap), memory

    def empty_cache(self, batch: int, length: int) -> KVCache:
        """Room for ``length`` tokens in each of ``batch`` rows."""
        shape = (batch, length, self.config.kv_heads, self.config.head_dim)
        return KVCache.empty(shape, self.compute_dtype, device=self.v_proj.weight.device)

    def _project(self, projection: Linear, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T N H"]:
        heads, limit = projection(x), self.config.clip_qkv
        return heads if limit is None else torch.clamp(heads, -limit, limit)

    def _place(self, heads: Float[Tensor, "B T N H"], norm: nn.Module | None, mask: Mask) -> Float[Tensor, "B T N H"]:
        """Norm and rotation of queries or keys, in the order that the config asks for."""
        c = self.config.qk_norm
        if c is not None and c.place == "after_rope":
            return norm_heads(norm, self.position.rotate(heads, mask), c)
        return self.position.rotate(norm_heads(norm, heads, c), mask)
