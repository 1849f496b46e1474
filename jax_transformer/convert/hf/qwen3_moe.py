"""Qwen 3 with experts; some layers may be dense."""

from jax_transformer.convert.hf.depth import Rope, Window, all_sliding
from jax_transformer.convert.hf.experts import (
    PROJECTIONS,
    TRAINING,
    EveryStep,
    Mixtures,
    dense,
    expert_rows,
    experts,
    renormalize,
)
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed
from jax_transformer.convert.hf.skeleton import DECODER, LAYER, LLAMA_ROWS, QK_NORM, modules, rms, sizes

MIXTURE = (
    *experts("softmax_top_k", ("num_experts", "num_local_experts"), defaults=(128, 8, 768)),
    # Written too: transformers 5 calls it so.
    Field("layer.ffn.num_experts", ("num_local_experts", "num_experts"), 128),
    renormalize(False),
)

QWEN3_MOE = Family(
    name="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    parts=(
        DECODER,
        *sizes(32768, kv_heads=4, hidden=()),
        *rms(1e-6, "before_weight", "scale", "layer.attention.qk_norm.norm"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Fixed({"layer.attention.qk_norm.scope": "head"}),
        Mixtures(EveryStep(), MIXTURE, dense(6144)),
        Window(all_sliding, 4096, flag="use_sliding_window", listed=False),
        Rope(),
    ),
    rows=LLAMA_ROWS + modules(LAYER, QK_NORM | {"mlp.gate": "ffn.router"}) + expert_rows("mlp", PROJECTIONS),
    harmless=f"{TRAINING} max_window_layers",
)
