"""Qwen 3: normalised queries and keys."""

from jax_transformer.convert.hf.depth import Rope, Window, last_sliding
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed
from jax_transformer.convert.hf.skeleton import DECODER, LAYER, LLAMA_ROWS, QK_NORM, feed_forward, modules, rms, sizes

QWEN3 = Family(
    name="qwen3",
    architecture="Qwen3ForCausalLM",
    parts=(
        DECODER,
        *sizes(32768, head_dim=128),
        *rms(1e-6, "before_weight", "scale", "layer.attention.qk_norm.norm"),
        *feed_forward("glu", "silu"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Fixed({"layer.attention.qk_norm.scope": "head"}),
        Window(last_sliding, 4096, flag="use_sliding_window"),
        Rope(),
    ),
    rows=LLAMA_ROWS + modules(LAYER, QK_NORM),
)
