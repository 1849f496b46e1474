"""OLMo: layer norms without parameters, clamped queries, keys and values."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, GLU, LAYER, feed_forward, modules, sizes

NORM = {"kind": "layer_norm", "weight": "none", "bias": False, "eps": 1e-5}

OLMO = Family(
    name="olmo",
    architecture="OlmoForCausalLM",
    parts=(
        DECODER,
        *sizes(2048),
        Fixed({f"{path}.{key}": value for path in ("layer.norm", "final_norm") for key, value in NORM.items()}),
        *feed_forward("glu", "silu"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Field("layer.attention.clip_qkv", "clip_qkv", None),
        Rope(),
    ),
    rows=ENDS + modules(LAYER, ATTENTION | GLU),
)
