"""One layer: a token mixer and a feed-forward network, each on a residual branch."""

from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer import config
from jax_transformer.nn.attention import ATTENTION
from jax_transformer.nn.attention.cache import KVCache
from jax_transformer.nn.ffn import FFN
from jax_transformer.nn.norm import build_norm
from jax_transformer.nn.params import Maker
from jax_transformer.nn.residual import add_branch
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.constrain import constrain
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.mask import Mask


class Block(nnx.Module):
    """``x + attn(attn_norm(x))``, then ``x + ffn(ffn_norm(x))``."""

    def __init__(self, c: config.Block, d_model: int, make: Maker):
        self.attn_norm = build_norm(c.norm, d_model, make)
        self.attn = ATTENTION[type(c.attention)](c.attention, d_model, make)
        self.ffn_norm = build_norm(c.norm, d_model, make)
        self.ffn = FFN[type(c.ffn)](c.ffn, d_model, make)
        self.dropout = c.dropout

    def __call__(
        self,
        x: Float[Array, "B T D"],
        mask: Mask,
        *,
        drop_path: Float[Array, ""] | None = None,
        noise: Noise | None = None,
        cache: tuple[KVCache, Int[Array, ""]] | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        """Apply the layer; ``drop_path`` is this layer's probability of dropping a branch."""
        rates = (self.dropout, drop_path)
        normed = self.attn_norm(x)
        tap("attn_norm", normed)
        attn_noise = None if noise is None else noise.fold(0)
        branch, memory = self.attn(normed, mask, noise=attn_noise, cache=cache, tap=tap.child("attn"))
        tap("attn", branch)
        x = constrain(add_branch(x, branch, rates, None if noise is None else noise.fold(1)), "batch", None, None)
        normed = self.ffn_norm(x)
        tap("ffn_norm", normed)
        branch = self.ffn(normed, tap.child("ffn"))
        tap("ffn", branch)
        x = constrain(add_branch(x, branch, rates, None if noise is None else noise.fold(2)), "batch", None, None)
        tap("output", x)
        return x, memory
