"""Gemma 2: sandwich norms, soft caps, a window on every other layer."""

from jax_transformer.convert.hf.depth import Rope, Window, every_full
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import CAP, INVERSE_ROOT, Field, Fixed, Only
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, GLU, LAYER, ROTARY, feed_forward, modules, rms, sizes

SANDWICH = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "attn_out_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "ffn_out_norm",
}

PARTS = (
    DECODER,
    *sizes(8192, head_dim=256, kv_heads=4, tied=True),
    *rms(1e-6, "after_weight", "one_plus"),
    *feed_forward("glu", "gelu_pytorch_tanh", ("hidden_activation", "hidden_act")),
    Fixed({"embedding.scale": "sqrt_dim"}),
    Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
    Field("layer.attention.scale", "query_pre_attn_scalar", 256, INVERSE_ROOT),
    Field("layer.attention.softcap", "attn_logit_softcapping", 50.0, CAP, null=None),
    Field("head.softcap", "final_logit_softcapping", 30.0, CAP, null=None),
    Window(every_full(2), 4096),
    Rope(),
)

GEMMA2 = Family(
    name="gemma2",
    architecture="Gemma2ForCausalLM",
    parts=(
        *PARTS,
        Fixed({"layer.placement": "sandwich"}),
        Only("use_bidirectional_attention", (None, False), "a decoder sees no later token"),
    ),
    rows=ENDS + modules(LAYER, ATTENTION | GLU | SANDWICH),
    drops=ROTARY,
    harmless="cache_implementation",
)
