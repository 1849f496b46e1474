"""Command R: parallel branches after one norm without bias, interleaved rotation, scaled logits."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed, switch
from jax_transformer.convert.hf.skeleton import (
    ATTENTION,
    DECODER,
    ENDS,
    GLU,
    LAYER,
    QK_NORM,
    feed_forward,
    layer_norm,
    modules,
    sizes,
)

QK = {"scope": "own_heads", "norm.kind": "layer_norm", "norm.bias": False}
PARTS = (
    *layer_norm("layer_norm_eps", 1e-5, bias=False),
    *feed_forward("glu", "silu"),
    Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
    Field("head.scale", "logit_scale", 0.0625),
    Fixed({"layer.parallel": "shared"}),
)
ROWS = ENDS + modules(LAYER, ATTENTION | GLU | QK_NORM | {"input_layernorm": "attn_norm"})

COHERE = Family(
    name="cohere",
    architecture="CohereForCausalLM",
    parts=(
        DECODER,
        *sizes(8192, tied=True),
        *PARTS,
        Field("layer.attention.qk_norm.norm.eps", "layer_norm_eps", 1e-5),
        switch(
            "use_qk_norm",
            False,
            {f"layer.attention.qk_norm.{key}": value for key, value in QK.items()},
            {"layer.attention.qk_norm": None},
        ),
        Rope(500_000.0, layout="interleaved"),
    ),
    rows=ROWS,
)
