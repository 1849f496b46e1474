"""GLM 4.5 and later: DeepSeek-V3's experts behind attention of which half of each head rotates."""

from jax_transformer.convert.hf.deepseek_v3 import CHOICE_BIAS, FURTHER, NAMES
from jax_transformer.convert.hf.depth import Rope
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
from jax_transformer.convert.hf.parts import Field, switch
from jax_transformer.convert.hf.skeleton import DECODER, LAYER, LLAMA_ROWS, QK_NORM, modules, rms, sizes

MIXTURE = grouped_mixture(("n_routed_experts", "num_local_experts"), (128, 8, 1408), 1, (1, 1), renormalized=True, scale=1.0)
QK = {"kind": "rms_norm", "cast": "before_weight", "weight": "scale"}

GLM4_MOE = Family(
    name="glm4_moe",
    architecture="Glm4MoeForCausalLM",
    parts=(
        DECODER,
        *sizes(131072, kv_heads=8, hidden=()),
        *rms(1e-5),
        Field("layer.attention.qkv_bias", "attention_bias", False),
        Field("layer.attention.qk_norm.norm.eps", "rms_norm_eps", 1e-5),
        switch(
            "use_qk_norm",
            False,
            {f"layer.attention.qk_norm.norm.{name}": value for name, value in QK.items()}
            | {"layer.attention.qk_norm.scope": "head"},
            {"layer.attention.qk_norm": None},
        ),
        Mixtures(AfterFirst(1), MIXTURE, dense(10944)),
        Rope(fraction=0.5),
    ),
    rows=LLAMA_ROWS + modules(LAYER, QK_NORM | NAMES) + CHOICE_BIAS + expert_rows("mlp", PROJECTIONS),
    further=FURTHER,
    harmless=TRAINING,
)
