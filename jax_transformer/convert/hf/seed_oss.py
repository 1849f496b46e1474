"""Seed-OSS: Llama with biases on queries, keys and values."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, feed_forward, rms, sizes

SEED_OSS = Family(
    name="seed_oss",
    architecture="SeedOssForCausalLM",
    parts=(
        DECODER,
        *sizes(524288, head_dim=128, kv_heads=8),
        *rms(1e-6),
        *feed_forward("glu", "silu"),
        Field("layer.attention.qkv_bias", "attention_bias", True),
        Field("layer.attention.o_bias", "attention_out_bias", False),
        Field("layer.ffn.bias", "mlp_bias", False),
        Rope(),
    ),
    rows=LLAMA_ROWS,
)
