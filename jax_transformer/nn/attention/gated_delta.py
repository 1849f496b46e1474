"""Gated DeltaNet (Yang et al. 2024, https://arxiv.org/abs/2412.06464), as in Qwen3-Next."""

import jax
from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer import config
from jax_transformer.config.linear_time import token_by_token
from jax_transformer.nn.attention.cache import DeltaCache
from jax_transformer.nn.context import Context
from jax_transformer.nn.linear import Linear
from jax_transformer.nn.norm import build_norm
from jax_transformer.nn.params import Maker
from jax_transformer.nn.short_conv import ShortConv
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.constrain import constrain
from jax_transformer.ops.delta_rule.chunked import chunked_delta_rule
from jax_transformer.ops.delta_rule.gates import decay_gate
from jax_transformer.ops.delta_rule.recurrent import recurrent_delta_rule
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.norm import l2_norm
from jax_transformer.ops.precision import at_least_float32


class GatedDelta(nnx.Module):
    """``o_proj(norm(delta_rule(q, k, v)) * silu(z))``, with q, k and v from short convolutions and gates per value head."""

    def __init__(self, c: config.GatedDelta, d_model: int, make: Maker):
        model, heads, key_heads = {"embed": d_model}, {"heads": c.num_value_heads}, {"kv_heads": c.num_key_heads}
        keys, values = key_heads | {"head_dim": c.key_dim}, heads | {"head_dim": c.v_dim}
        self.q_proj, self.k_proj = Linear(model, keys, make), Linear(model, keys, make)
        self.v_proj, self.z_proj = Linear(model, values, make), Linear(model, values, make)
        self.b_proj, self.a_proj = Linear(model, heads, make), Linear(model, heads, make)
        self.q_conv = ShortConv(c.num_key_heads * c.key_dim, c.conv_width, make)
        self.k_conv = ShortConv(c.num_key_heads * c.key_dim, c.conv_width, make)
        self.v_conv = ShortConv(c.num_value_heads * c.v_dim, c.conv_width, make)
        # Not from 0: it has no logarithm.
        self.A_log = make.uniform((0.01, 16.0), (c.num_value_heads,), ("heads",), log=True)
        self.dt_bias = make.constant(1.0, (c.num_value_heads,), ("heads",))
        self.norm = build_norm(c.norm, {"head_dim": c.v_dim}, make)
        self.o_proj = Linear(values, model, make, std=make.residual_std)
        self.config = c
        self.compute_dtype = make.dtype.compute

    def __call__(
        self,
        x: Float[Array, "B T D"],
        context: Context,
        *,
        noise: Noise | None = None,
        cache: tuple[DeltaCache, Int[Array, ""]] | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Array, "B T D"], DeltaCache | None]:
        """Mix positions. ``cache`` is what this layer remembers; the slot beside it and ``noise`` mean nothing here."""
        c, segments, wide = self.config, context.mask.q_segments, at_least_float32(x.dtype)
        past = None if cache is None else cache[0]
        windows = (None,) * 3 if past is None else (past.q_window, past.k_window, past.v_window)
        q, q_window = self.q_conv(self.q_proj(x), segments, windows[0])
        k, k_window = self.k_conv(self.k_proj(x), segments, windows[1])
        v, v_window = self.v_conv(self.v_proj(x), segments, windows[2])
        q, k = (l2_norm(heads.astype(wide), c.l2_eps) for heads in (q, k))
        q, v = (constrain(heads, "batch", None, "heads", None) for heads in (q, v))
        beta = jax.nn.sigmoid(self.b_proj(x).astype(wide)) * (2.0 if c.allow_neg_eigval else 1.0)
        decay = decay_gate(self.a_proj(x), self.A_log[...], self.dt_bias[...])
        for name, value in (("q", q), ("k", k), ("v", v), ("beta", beta), ("decay", decay)):
            tap(name, value)
        options = {"segments": segments, "state": None if past is None else past.state}
        if token_by_token(c, x.shape[1]):
            mixed, state = recurrent_delta_rule(q, k, v, decay, beta, **options)
        else:
            mixed, state = chunked_delta_rule(q, k, v, decay, beta, chunk=c.chunk, **options)
        tap("mixed", mixed)
        gate = jax.nn.silu(self.z_proj(x).astype(wide))
        tap("gate", gate)
        gated = (self.norm(mixed).astype(wide) * gate).astype(x.dtype)
        return self.o_proj(gated), None if past is None else DeltaCache(q_window, k_window, v_window, state)

    def empty_cache(self, batch: int, length: int) -> DeltaCache:
        """The state before any token in each of ``batch`` rows, whatever the ``length``."""
        c = self.config
        shape = (batch, c.num_value_heads, c.key_dim, c.v_dim)
        return DeltaCache.empty(shape, c.conv_width - 1, c.num_key_heads * c.key_dim, self.compute_dtype)
