"""ERNIE 4.5 with experts: interleaved rotation, a softmax with a bias that only chooses."""

from jax_transformer.convert.byte_ops import Reshape
from jax_transformer.convert.hf.deepseek_v3 import NAMES
from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.expert_parts import SharedExperts
from jax_transformer.convert.hf.experts import (
    PROJECTIONS,
    TRAINING,
    Interval,
    Mixtures,
    dense,
    expert_rows,
    experts,
    in_memory,
)
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed, Only
from jax_transformer.convert.hf.skeleton import DECODER, LAYER, LLAMA_ROWS, OURS, modules, rms, sizes
from jax_transformer.convert.rows import Drop, Row

COUNT, TOP_K = ("moe_num_experts", "num_experts"), ("moe_k", "num_experts_per_tok")
MIXTURE = (
    *experts("softmax_top_k", COUNT, TOP_K, defaults=(64, 6, 1536), shared=True),
    Fixed({"layer.ffn.routing.renormalize": True, "layer.ffn.routing.choice_bias": True}),
    Field("layer.ffn.routing.floor", "moe_norm_min", 1e-12),
    Field("layer.ffn.shared.bias", "use_bias", False),
    SharedExperts("moe_num_shared_experts", 2, 1536),
)

ERNIE4_5_MOE = Family(
    name="ernie4_5_moe",
    architecture="Ernie4_5_MoeForCausalLM",
    parts=(
        DECODER,
        *sizes(131072, kv_heads=4, tied=True, hidden=()),
        *rms(1e-5),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias", "head.bias"), "use_bias", False),
        Mixtures(Interval(), MIXTURE, (*dense(12288), Field("layer.ffn.bias", "use_bias", False))),
        Only("moe_use_aux_free", (True,), "this family has a bias that chooses"),
        Rope(500_000.0, layout="interleaved"),
    ),
    rows=(
        *LLAMA_ROWS,
        *modules(LAYER, NAMES),
        *expert_rows("mlp", PROJECTIONS),
        Row(f"{LAYER}mlp.moe_statics.e_score_correction_bias", (f"{OURS}ffn.choice_bias",), Reshape((1, -1))),
        in_memory("mlp.gate.moe_statics.e_score_correction_bias", ("choice_bias",), Reshape((1, -1))),
    ),
    drops=(Drop("model.mtp_*", "predicts further tokens"),),
    harmless=f"{TRAINING} moe_capacity moe_gate num_nextn_predict_layers",
)
