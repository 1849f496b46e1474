"""Attention of one sequence over another: how a decoder reads the encoder's output."""

from jaxtyping import Array, Float

from jax_transformer import config
from jax_transformer.nn.attention.cache import KVCache
from jax_transformer.nn.attention.kernel import attend
from jax_transformer.nn.attention.multi_head import MultiHead
from jax_transformer.nn.attention.query_key import norm_heads
from jax_transformer.nn.context import Context
from jax_transformer.nn.params import Maker
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.constrain import constrain
from jax_transformer.ops.dropout import Noise


class CrossAttention(MultiHead):
    """Queries of the decoder, keys and values of the encoder, whose width is ``source_dim`` (default: the decoder's)."""

    def __init__(self, c: config.CrossAttention, d_model: int, make: Maker, source_dim: int | None = None):
        super().__init__(c, d_model, d_model if source_dim is None else source_dim, make)
        self.config = c

    def __call__(
        self,
        x: Float[Array, "B T D"],
        context: Context,
        *,
        noise: Noise | None = None,
        memory: KVCache | None = None,
        tap: Tap = SILENT,
    ) -> Float[Array, "B T D"]:
        """Read the source. ``memory`` is what ``keys_values`` made of it; without it, ``context`` must have the source."""
        assert context.source_mask is not None
        c = self.config
        if memory is None:
            assert context.source is not None
            memory = self.keys_values(context.source)
        q = constrain(norm_heads(self.q_norm, self.q_proj(x), c.qk_norm), "batch", None, "heads", None)
        k, v = memory.keys, memory.values
        for name, value in (("q", q), ("k", k), ("v", v)):
            tap(name, value)
        sinks = None if self.sinks is None else self.sinks[...]
        mixed = attend(c, q, k, v, context.source_mask, sinks=sinks, noise=noise, tap=tap)
        tap("mixed", mixed)
        return self.output(mixed, x, tap)

    def keys_values(self, source: Float[Array, "B S D"]) -> KVCache:
        """Keys and values of the encoder's output: computed once, read at every decoding step."""
        return KVCache(norm_heads(self.k_norm, self.k_proj(source), self.config.qk_norm), self.v_proj(source))
