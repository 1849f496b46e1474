"""Granite: Llama with four multipliers."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import RECIPROCAL, Field
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, ROTARY, feed_forward, rms, sizes

MULTIPLIERS = (
    Field("embedding.scale", "embedding_multiplier", 1.0),
    Field("layer.residual_scale", "residual_multiplier", 1.0),
    Field("layer.attention.scale", "attention_multiplier", 1.0),
    Field("head.scale", "logits_scaling", 1.0, RECIPROCAL),
)

GRANITE = Family(
    name="granite",
    architecture="GraniteForCausalLM",
    parts=(
        DECODER,
        *sizes(2048),
        *rms(1e-6),
        *feed_forward("glu", "silu"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Field("layer.ffn.bias", "mlp_bias", False),
        *MULTIPLIERS,
        Rope(),
    ),
    rows=LLAMA_ROWS,
    drops=ROTARY,
)
