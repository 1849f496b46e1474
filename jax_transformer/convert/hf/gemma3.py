"""Gemma 3, text: normalised queries and keys, five layers with a window and a theta of their own to one without."""

from jax_transformer.convert.hf.depth import FULL, SLIDING, Rope, Window, every_full
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.gemma2 import SANDWICH
from jax_transformer.convert.hf.parts import CAP, INVERSE_ROOT, Field, Fixed, Only
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, GLU, LAYER, QK_NORM, feed_forward, modules, rms, sizes

WINDOW = Window(every_full(6, ("sliding_window_pattern", "_sliding_window_pattern")), 4096)

GEMMA3 = Family(
    name="gemma3_text",
    architecture="Gemma3ForCausalLM",
    parts=(
        DECODER,
        *sizes(131072, head_dim=256, kv_heads=4, tied=True),
        *rms(1e-6, "after_weight", "one_plus", "layer.attention.qk_norm.norm"),
        *feed_forward("glu", "gelu_pytorch_tanh", ("hidden_activation", "hidden_act")),
        Fixed({"embedding.scale": "sqrt_dim", "layer.placement": "sandwich", "layer.attention.qk_norm.scope": "head"}),
        Only("use_bidirectional_attention", (False, None), "a decoder sees no later token"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Field("layer.attention.scale", "query_pre_attn_scalar", 256, INVERSE_ROOT),
        Field("layer.attention.softcap", "attn_logit_softcapping", None, CAP),
        Field("head.softcap", "final_logit_softcapping", None, CAP),
        WINDOW,
        Rope(window=WINDOW, thetas={FULL: 1_000_000.0, SLIDING: 10_000.0}),
    ),
    rows=ENDS + modules(LAYER, ATTENTION | GLU | SANDWICH | QK_NORM),
    harmless="cache_implementation",
)
