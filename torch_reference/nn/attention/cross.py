"""Attention of one sequence over another: how a decoder reads the encoder's output."""

from jaxtyping import Float
from torch import Tensor

from jax_transformer import config
from torch_reference.nn.attention.cache import KVCache
from torch_reference.nn.attention.kernel import attend
from torch_reference.nn.attention.multi_head import MultiHead
from torch_reference.nn.attention.query_key import norm_heads
from torch_reference.nn.context import Context
from torch_reference.nn.params import Maker
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.dropout import Noise


class CrossAttention(MultiHead):
    """Queries of the decoder, keys and values of the encoder, whose width is ``source_dim`` (default: the decoder's)."""

    def __init__(self, c: config.CrossAttention, d_model: int, make: Maker, source_dim: int | None = None):
        super().__init__(c, d_model, d_model if source_dim is None else source_dim, make)
        self.config = c

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context,
        *,
        noise: Noise | None = None,
        memory: KVCache | None = None,
        tap: Tap = SILENT,
    ) -> Float[Tensor, "B T D"]:
        """Read the source. ``memory`` is what ``keys_values`` made of it; without it, ``context`` must have the source."""
        assert context.source_mask is not None
        c = self.config
        if memory is None:
            assert context.source is not None
            memory = self.keys_values(context.source)
        q = norm_heads(self.q_norm, self.q_proj(x), c.qk_norm)
        k, v = memory.keys, memory.values
        for name, value in (("q", q), ("k", k), ("v", v)):
            tap(name, value)
        mixed = attend(c, q, k, v, context.source_mask, sinks=self.sinks, noise=noise, tap=tap)
        tap("mixed", mixed)
        return self.output(mixed, x, tap)

    def keys_values(self, source: Float[Tensor, "B S D"]) -> KVCache:
        """Keys and values of the encoder's output: computed once, read at every decoding step."""
        return KVCache(norm_heads(self.k_norm, self.k_proj(source), self.config.qk_norm), self.v_proj(source))
