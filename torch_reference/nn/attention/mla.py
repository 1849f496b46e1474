"""Multi-head latent attention (DeepSeek-V2, https://arxiv.org/abs/2405.04434)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.attention.cache import LatentCache
from torch_reference.nn.attention.kernel import attend
from torch_reference.nn.context import Context
from torch_reference.nn.linear import Linear
from torch_reference.nn.norm import build_norm
from torch_reference.nn.params import Maker
from torch_reference.nn.position import POSITION
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.dropout import Noise
from torch_reference.ops.mask import Mask


class Mla(nn.Module):
    """Keys and values expanded from a latent per token, and one rotated key for all heads."""

    def __init__(self, c: config.Mla, d_model: int, make: Maker):
        super().__init__()
        model, kv_rank, heads = {"embed": d_model}, {"kv_rank": c.kv_rank}, {"heads": c.num_heads}
        queries, values = heads | {"head_dim": c.nope_dim + c.rope_dim}, heads | {"head_dim": c.v_dim}
        if c.q_rank is None:
            self.q_proj = Linear(model, queries, make)
        else:
            self.q_down_proj = Linear(model, {"q_rank": c.q_rank}, make, bias=c.down_bias)
            self.q_norm = build_norm(c.latent_norm, c.q_rank, make)
            self.q_up_proj = Linear({"q_rank": c.q_rank}, queries, make)
        self.kv_down_proj = Linear(model, kv_rank, make, bias=c.down_bias)
        self.kv_norm = build_norm(c.latent_norm, c.kv_rank, make)
        self.k_rope_proj = Linear(model, {"head_dim": c.rope_dim}, make, bias=c.down_bias)
        self.k_up_proj = Linear(kv_rank, heads | {"head_dim": c.nope_dim}, make)
        self.v_up_proj = Linear(kv_rank, values, make)
        self.o_proj = Linear(values, model, make, bias=c.o_bias, std=make.residual_std)
        self.position = POSITION[type(c.position)](c.position, (c.num_heads, c.rope_dim), make)
        self.config = c
        self.compute_dtype = getattr(torch, make.dtype.compute)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context,
        *,
        noise: Noise | None = None,
        cache: tuple[LatentCache, Int[Tensor, ""]] | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Tensor, "B T D"], LatentCache | None]:
        """Mix positions. ``cache`` is what this layer remembers and the slot where the new tokens go."""
        c, mask = self.config, context.mask
        q = self._queries(x, mask)
        latents = self.kv_norm(self.kv_down_proj(x))
        rope_keys = self.position.rotate(self.k_rope_proj(x)[:, :, None, :], mask)[:, :, 0, :]
        memory = None
        if cache is not None:
            memory = cache[0].write(latents, rope_keys, cache[1])
            latents, rope_keys = memory.latents, memory.rope_keys
        nope, v = self.k_up_proj(latents), self.v_up_proj(latents)
        shared = rope_keys[:, :, None, :].expand(*nope.shape[:3], c.rope_dim)
        k = torch.cat([nope, shared], dim=-1)
        for name, value in (("q", q), ("k", k), ("v", v)):
            tap(name, value)
        mixed = attend(c, q, k, v, mask, noise=noise, cached=cache is not None, tap=tap)
        tap("mixed", mixed)
        return self.o_proj(mixed), memory

    def empty_cache(self, batch: int, length: int) -> LatentCache:
        """Room for ``length`` tokens in each of ``batch`` rows."""
        widths = (self.config.kv_rank, self.config.rope_dim)
        return LatentCache.empty((batch, length), widths, self.compute_dtype, self.v_up_proj.weight.device)

    def _queries(self, x: Float[Tensor, "B T D"], mask: Mask) -> Float[Tensor, "B T N H"]:
        """Queries, from ``x`` or from its latent, with their last ``rope_dim`` dimensions rotated."""
        direct = self.config.q_rank is None
        q = self.q_proj(x) if direct else self.q_up_proj(self.q_norm(self.q_down_proj(x)))
        nope, rope = q[..., : self.config.nope_dim], q[..., self.config.nope_dim :]
        return torch.cat([nope, self.position.rotate(rope, mask)], dim=-1)
