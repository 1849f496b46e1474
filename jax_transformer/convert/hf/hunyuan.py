"""Hunyuan, dense: queries and keys normalised after their rotation."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed
from jax_transformer.convert.hf.skeleton import DECODER, LAYER, LLAMA_ROWS, feed_forward, modules, rms, sizes

NORMS = {"self_attn.query_layernorm": "attn.q_norm", "self_attn.key_layernorm": "attn.k_norm"}

HUNYUAN = Family(
    name="hunyuan_v1_dense",
    architecture="HunYuanDenseV1ForCausalLM",
    parts=(
        DECODER,
        *sizes(2048),
        *rms(1e-5, "before_weight", "scale", "layer.attention.qk_norm.norm"),
        *feed_forward("glu", "silu"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Fixed({"layer.attention.qk_norm.scope": "head", "layer.attention.qk_norm.place": "after_rope"}),
        Rope(),
    ),
    rows=LLAMA_ROWS + modules(LAYER, NORMS),
    harmless="eod_token_id",
)
