"""Gemma: 1 + w norms, embeddings times the root of the width, GEGLU."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed, Only
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, ROTARY, feed_forward, rms, sizes

GEMMA = Family(
    name="gemma",
    architecture="GemmaForCausalLM",
    parts=(
        DECODER,
        *sizes(8192, head_dim=256, tied=True),
        *rms(1e-6, "after_weight", "one_plus"),
        *feed_forward("glu", "gelu_pytorch_tanh", ("hidden_act", "hidden_activation")),
        Fixed({"embedding.scale": "sqrt_dim"}),
        Only("use_bidirectional_attention", (None, False), "a decoder sees no later token"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Rope(),
    ),
    rows=LLAMA_ROWS,
    drops=ROTARY,
)
