"""Helium: Llama with interleaved rotation."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, feed_forward, rms, sizes

HELIUM = Family(
    name="helium",
    architecture="HeliumForCausalLM",
    parts=(
        DECODER,
        *sizes(4096, head_dim=128, kv_heads=20),
        *rms(1e-8, "after_weight"),
        *feed_forward("glu", "silu"),
        Field("layer.attention.qkv_bias", "attention_bias", False),
        Field("layer.ffn.bias", "mlp_bias", False),
        Rope(100_000.0, layout="interleaved"),
    ),
    rows=LLAMA_ROWS,
)
