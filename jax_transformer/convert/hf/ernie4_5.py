"""ERNIE 4.5, dense: Llama with interleaved rotation."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, feed_forward, rms, sizes

BIASES = ("layer.attention.qkv_bias", "layer.attention.o_bias", "layer.ffn.bias")

ERNIE4_5 = Family(
    name="ernie4_5",
    architecture="Ernie4_5ForCausalLM",
    parts=(
        DECODER,
        *sizes(131072, head_dim=128, kv_heads=2, tied=True),
        *rms(1e-5),
        *feed_forward("glu", "silu"),
        Field(BIASES, "use_bias", False),
        Rope(500_000.0, layout="interleaved"),
    ),
    rows=LLAMA_ROWS,
)
