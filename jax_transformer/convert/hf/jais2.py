"""Jais 2: layer norms, a plain feed-forward network of squared ReLU, biases."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, feed_forward, layer_norm, sizes

JAIS2 = Family(
    name="jais2",
    architecture="Jais2ForCausalLM",
    parts=(
        DECODER,
        *sizes(8192),
        *layer_norm("layer_norm_eps", 1e-5),
        *feed_forward("mlp", "relu2"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", True),
        Field("layer.ffn.bias", "mlp_bias", True),
        Rope(),
    ),
    rows=LLAMA_ROWS,
)
