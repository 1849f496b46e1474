"""GLM 4 of 2024: half of each head rotates, interleaved; a fused gate."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field
from jax_transformer.convert.hf.phi3 import GATE_UP
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, LAYER, PRE, feed_forward, modules, rms, sizes

DOWN = {"mlp.down_proj": "ffn.down_proj"}
PARTS = (
    DECODER,
    *sizes(131072, head_dim=128, kv_heads=2),
    *rms(1.5625e-07),
    *feed_forward("glu", "silu"),
    Field("layer.attention.qkv_bias", "attention_bias", True),
    Rope(fraction=0.5, layout="interleaved"),
)

GLM = Family(
    name="glm",
    architecture="GlmForCausalLM",
    parts=PARTS,
    rows=ENDS + modules(LAYER, ATTENTION | DOWN | PRE) + GATE_UP,
)
