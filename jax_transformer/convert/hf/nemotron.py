"""Nemotron: layer norms of 1 + w, squared ReLU, half of each head rotates."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field
from jax_transformer.convert.hf.skeleton import (
    ATTENTION,
    DECODER,
    ENDS,
    GLU,
    LAYER,
    PRE,
    feed_forward,
    layer_norm,
    modules,
    sizes,
)

NEMOTRON = Family(
    name="nemotron",
    architecture="NemotronForCausalLM",
    parts=(
        DECODER,
        *sizes(4096),
        *layer_norm("norm_eps", 1e-5, weight="one_plus"),
        *feed_forward("mlp", "relu2"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Field("layer.ffn.bias", "mlp_bias", False),
        Rope(fraction=0.5),
    ),
    rows=ENDS + modules(LAYER, ATTENTION | GLU | PRE),
)
