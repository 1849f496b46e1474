"""One layer: a token mixer and a feed-forward network, each on a residual branch."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.attention import ATTENTION
from torch_reference.nn.attention.cache import KVCache
from torch_reference.nn.ffn import FFN
from torch_reference.nn.norm import build_norm
from torch_reference.nn.params import Maker
from torch_reference.nn.residual import add_branch
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.dropout import Noise
from torch_reference.ops.mask import Mask


class Block(nn.Module):
    """``x + attn(attn_norm(x))``, then ``x + ffn(ffn_norm(x))``."""

    def __init__(self, c: config.Block, d_model: int, make: Maker):
        super().__init__()
        self.attn_norm = build_norm(c.norm, d_model, make)
        self.attn = ATTENTION[type(c.attention)](c.attention, d_model, make)
        self.ffn_norm = build_norm(c.norm, d_model, make)
        self.ffn = FFN[type(c.ffn)](c.ffn, d_model, make)
        self.dropout = c.dropout

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Mask,
        *,
        drop_path: float | None = None,
        noise: Noise | None = None,
        cache: tuple[KVCache, Int[Tensor, ""]] | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Tensor, "B T D"], KVCache | None]:
        """Apply the layer; ``drop_path`` is this layer's probability of dropping a branch."""
        rates = (self.dropout, drop_path)
        normed = self.attn_norm(x)
        tap("attn_norm", normed)
        attn_noise = None if noise is None else noise.fold(0)
        branch, memory = self.attn(normed, mask, noise=attn_noise, cache=cache, tap=tap.child("attn"))
        tap("attn", branch)
        x = add_branch(x, branch, rates, None if noise is None else noise.fold(1))
        normed = self.ffn_norm(x)
        tap("ffn_norm", normed)
        branch = self.ffn(normed, tap.child("ffn"))
        tap("ffn", branch)
        x = add_branch(x, branch, rates, None if noise is None else noise.fold(2))
        tap("output", x)
        return x, memory
