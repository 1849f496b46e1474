"""Small models from their parts.

Sizes are tiny and all different, and ``num_heads * head_dim`` is not ``d_model``: no transposed or confused dimension can hide.
"""

from typing import Any, get_args

from jax_transformer import config as c
from jax_transformer.config import Activation

VOCAB, WIDTH, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, MAX_LENGTH = 19, 10, 14, 6, 2, 4, 32

ACTIVATIONS: tuple[str, ...] = get_args(Activation)
RMS, LAYER = c.RMSNorm(eps=1e-3), c.LayerNorm(eps=1e-3)
"""Large epsilons: their place in the formula shows."""


def attention(**changes: Any) -> c.Softmax:
    """A grouped-query attention with partial rotation."""
    usual: dict[str, Any] = {"num_heads": HEADS, "num_kv_heads": KV_HEADS, "head_dim": HEAD_DIM, "position": c.Rope(base=100.0)}
    return c.Softmax(**usual | changes)


def block(attn: c.Attention | None = None, ffn: c.Ffn | None = None, norm: c.Norm = RMS, **changes: Any) -> c.Block:
    """One layer of the usual kind, unless told otherwise."""
    return c.Block(attention=attn or attention(), ffn=ffn or c.Glu(hidden_dim=HIDDEN), norm=norm, **changes)


def moe(routing: c.Routing, expert: c.DenseFfn | None = None, **changes: Any) -> c.Moe:
    """Four small gated experts, unless told otherwise."""
    return c.Moe(**{"num_experts": 4, "routing": routing, "expert": expert or c.Glu(hidden_dim=7)} | changes)


def decoder(*pattern: c.Block, num_layers: int | None = None, stack: dict[str, Any] | None = None, **changes: Any) -> c.Decoder:
    """A model that repeats ``pattern`` (default: one usual block) over ``num_layers`` (default: once)."""
    pattern = pattern or (block(),)
    built = c.Stack(pattern=pattern, num_layers=num_layers or len(pattern), **(stack or {}))
    usual: dict[str, Any] = {"vocab_size": VOCAB, "d_model": WIDTH, "max_length": MAX_LENGTH, "stack": built, "final_norm": RMS}
    return c.Decoder(**usual | changes)


def tower(*pattern: c.Block, num_layers: int | None = None, **changes: Any) -> c.Tower:
    """One half of an encoder-decoder."""
    stack = c.Stack(pattern=pattern, num_layers=num_layers or len(pattern))
    return c.Tower(**{"stack": stack, "final_norm": RMS} | changes)


def encoder(*pattern: c.Block, num_layers: int | None = None, **changes: Any) -> c.Encoder:
    """A bidirectional model; see ``decoder``."""
    built = c.Stack(pattern=pattern, num_layers=num_layers or len(pattern))
    usual: dict[str, Any] = {"vocab_size": VOCAB, "d_model": WIDTH, "max_length": MAX_LENGTH, "stack": built, "final_norm": RMS}
    return c.Encoder(**usual | changes)


def encoder_decoder(encoder: c.Tower, decoder: c.Tower, **changes: Any) -> c.EncoderDecoder:
    """A sequence-to-sequence model."""
    usual: dict[str, Any] = {"vocab_size": VOCAB, "d_model": WIDTH, "max_length": MAX_LENGTH, "max_source_length": 16}
    return c.EncoderDecoder(**usual | {"encoder": encoder, "decoder": decoder} | changes)


def cross(**changes: Any) -> c.CrossAttention:
    """A grouped-query cross-attention."""
    return c.CrossAttention(**{"num_heads": HEADS, "num_kv_heads": KV_HEADS, "head_dim": HEAD_DIM} | changes)


def mla(**changes: Any) -> c.Mla:
    """A latent attention without a query latent."""
    usual = {"num_heads": 3, "kv_rank": 5, "nope_dim": 4, "rope_dim": 2, "v_dim": 6, "position": c.Rope(base=50.0)}
    return c.Mla(**usual | changes)
