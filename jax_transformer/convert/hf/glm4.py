"""GLM 4 of 2025: GLM with sandwich norms."""

from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.glm import DOWN, PARTS
from jax_transformer.convert.hf.parts import Fixed
from jax_transformer.convert.hf.phi3 import GATE_UP
from jax_transformer.convert.hf.skeleton import ATTENTION, ENDS, LAYER, PRE, modules

AFTER = {"post_self_attn_layernorm": "attn_out_norm", "post_mlp_layernorm": "ffn_out_norm"}

GLM4 = Family(
    name="glm4",
    architecture="Glm4ForCausalLM",
    parts=(*PARTS, Fixed({"layer.placement": "sandwich"})),
    rows=ENDS + modules(LAYER, ATTENTION | DOWN | PRE | AFTER) + GATE_UP,
)
