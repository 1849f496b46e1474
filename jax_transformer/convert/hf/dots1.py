"""dots.llm1: Qwen 3's attention, DeepSeek-V3's experts."""

from jax_transformer.convert.hf.deepseek_v3 import CHOICE_BIAS, NAMES
from jax_transformer.convert.hf.depth import Rope, Window, sliding_from
from jax_transformer.convert.hf.experts import (
    PROJECTIONS,
    TRAINING,
    AfterFirst,
    Mixtures,
    dense,
    expert_rows,
    grouped_mixture,
)
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed, Missing, Only
from jax_transformer.convert.hf.skeleton import DECODER, LAYER, LLAMA_ROWS, QK_NORM, modules, rms, sizes

MIXTURE = grouped_mixture("n_routed_experts", (Missing, Missing, 1408), Missing, (1, 1), renormalized=False, scale=1.0)

DOTS1 = Family(
    name="dots1",
    architecture="Dots1ForCausalLM",
    parts=(
        DECODER,
        *sizes(2048, kv_heads=32, hidden=()),
        *rms(1e-6, "before_weight", "scale", "layer.attention.qk_norm.norm"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Fixed({"layer.attention.qk_norm.scope": "head"}),
        Mixtures(AfterFirst(0), MIXTURE, dense(10944)),
        Only("moe_layer_freq", (1,), "every layer after the first ones is a mixture"),
        Only("scoring_func", ("sigmoid", "noaux_tc"), "this family scores by the sigmoid"),
        Window(sliding_from(62), 4096),
        Rope(),
    ),
    rows=LLAMA_ROWS + modules(LAYER, QK_NORM | NAMES) + CHOICE_BIAS + expert_rows("mlp", PROJECTIONS),
    harmless=TRAINING,
)
