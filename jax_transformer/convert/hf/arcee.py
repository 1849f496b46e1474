"""Arcee: Llama with a plain feed-forward network of squared ReLU."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, feed_forward, rms, sizes

ARCEE = Family(
    name="arcee",
    architecture="ArceeForCausalLM",
    parts=(
        DECODER,
        *sizes(4096),
        *rms(1e-5),
        *feed_forward("mlp", "relu2"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Field("layer.ffn.bias", "mlp_bias", False),
        Rope(),
    ),
    rows=LLAMA_ROWS,
)
