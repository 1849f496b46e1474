"""One layer: token mixers and a feed-forward network, each on a residual branch."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.attention import ATTENTION
from torch_reference.nn.attention.cache import KVCache
from torch_reference.nn.attention.cross import CrossAttention
from torch_reference.nn.context import Context
from torch_reference.nn.ffn import FFN
from torch_reference.nn.norm import build_norm
from torch_reference.nn.params import Maker
from torch_reference.nn.residual import add_branch
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.balance import Usage
from torch_reference.ops.dropout import Noise

NORMS = {"pre": {"in"}, "post": {"sum"}, "sandwich": {"in", "out"}, "output": {"out"}}
"""Placement -> which of the three norms around a branch exist."""


class Block(nn.Module):
    """``norm_sum(x + norm_out(f(norm_in(x))))`` for attention, cross-attention (if any) and the feed-forward network in turn.

    Parallel branches read the same ``x`` and are added to it one after the other. Cross-attention reads states of width
    ``source_dim`` (default: ``d_model``).
    """

    def __init__(self, c: config.Block, d_model: int, make: Maker, source_dim: int | None = None):
        super().__init__()

        def norms(exist: bool = True, before: bool = True) -> list[nn.Module | None]:
            placed = NORMS[c.placement] - (set() if before else {"in"}) if exist else set()
            return [build_norm(c.norm, d_model, make) if name in placed else None for name in ("in", "out", "sum")]

        self.attn_norm, self.attn_out_norm, self.attn_sum_norm = norms(before=c.attention_norm)
        self.attn = ATTENTION[type(c.attention)](c.attention, d_model, make)
        self.cross_norm, self.cross_out_norm, self.cross_sum_norm = norms(c.cross_attention is not None)
        self.cross_attn = None if c.cross_attention is None else CrossAttention(c.cross_attention, d_model, make, source_dim)
        self.ffn_norm, self.ffn_out_norm, self.ffn_sum_norm = norms(c.parallel != "shared")
        self.ffn = FFN[type(c.ffn)](c.ffn, d_model, make)
        self.config = c

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context,
        *,
        drop_path: float | None = None,
        noise: Noise | None = None,
        cache: tuple[Any, Int[Tensor, ""]] | None = None,
        source: KVCache | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Tensor, "B T D"], Any, Usage | None]:
        """Apply the layer; ``drop_path`` is this layer's probability of dropping a branch.

        ``cache`` is what the attention remembers and the slot where the new tokens go, ``source`` the keys and values of the
        cross-attention where they are known already. Returns the attention's new memory as well (None without a cache), and how
        the experts of the feed-forward network are used (None without any).
        """
        rates = (self.config.dropout, drop_path)
        folds = [None] * 6 if noise is None else [noise.fold(number) for number in range(6)]
        entry, normed = x, _normed(self.attn_norm, x, "attn_norm", tap)
        branch, memory = self.attn(normed, context, noise=folds[0], cache=cache, tap=tap.child("attn"))
        tap("attn", branch)
        x = self._join(x, branch, (self.attn_out_norm, self.attn_sum_norm), rates, folds[1], "attn", tap)
        if self.cross_attn is not None:
            normed = _normed(self.cross_norm, x, "cross_norm", tap)
            branch = self.cross_attn(normed, context, noise=folds[3], memory=source, tap=tap.child("cross_attn"))
            tap("cross_attn", branch)
            x = self._join(x, branch, (self.cross_out_norm, self.cross_sum_norm), rates, folds[4], "cross", tap)
        if self.config.parallel != "shared":
            normed = _normed(self.ffn_norm, entry if self.config.parallel else x, "ffn_norm", tap)
        branch, usage = self.ffn(normed, context, noise=folds[5], tap=tap.child("ffn"))
        tap("ffn", branch)
        x = self._join(x, branch, (self.ffn_out_norm, self.ffn_sum_norm), rates, folds[2], "ffn", tap)
        tap("output", x)
        return x, memory, usage

    def _join(
        self,
        x: Float[Tensor, "B T D"],
        branch: Float[Tensor, "B T D"],
        norms: tuple[nn.Module | None, nn.Module | None],
        rates: tuple[float, float | None],
        noise: Noise | None,
        name: str,
        tap: Tap,
    ) -> Float[Tensor, "B T D"]:
        """The residual sum, with the norms of the branch and of the sum."""
        branch = _normed(norms[0], branch, f"{name}_out_norm", tap)
        x = add_branch(x, branch, rates, noise, self.config.residual_scale)
        return _normed(norms[1], x, f"{name}_sum_norm", tap)


def _normed(norm: Any, x: Float[Tensor, "B T D"], name: str, tap: Tap) -> Float[Tensor, "B T D"]:
    if norm is None:
        return x
    normed = norm(x)
    tap(name, normed)
    return normed
