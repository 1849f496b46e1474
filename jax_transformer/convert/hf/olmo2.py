"""OLMo 2: norms on the branches' outputs, queries and keys normalised over all heads."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, GLU, LAYER, QK_NORM, feed_forward, modules, rms, sizes

OUTPUT = {"post_attention_layernorm": "attn_out_norm", "post_feedforward_layernorm": "ffn_out_norm"}
PARTS = (
    DECODER,
    *sizes(2048),
    *rms(1e-5, "after_weight", "scale", "layer.attention.qk_norm.norm"),
    *feed_forward("glu", "silu"),
    Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
    Fixed({"layer.placement": "output", "layer.attention.qk_norm.scope": "full"}),
)
ROWS = ENDS + modules(LAYER, ATTENTION | GLU | OUTPUT | QK_NORM)

OLMO2 = Family(name="olmo2", architecture="Olmo2ForCausalLM", parts=(*PARTS, Rope()), rows=ROWS)
