"""Llama 1 to 3 and what shares its skeleton."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Only
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, ROTARY, feed_forward, rms, sizes

LLAMA = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    parts=(
        DECODER,
        *sizes(2048),
        *rms(1e-6),
        *feed_forward("glu", "silu"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Field("layer.ffn.bias", "mlp_bias", False),
        Only("rope_interleaved", (False,), "transformers does not read it"),
        Rope(),
    ),
    rows=LLAMA_ROWS,
    drops=ROTARY,
    harmless="is_llama_config",
)
