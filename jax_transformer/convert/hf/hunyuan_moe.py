"""Hunyuan with experts: one more for every token, queries and keys normalised after their rotation."""

from typing import Any

from jax_transformer.convert.hf.experts import PROJECTIONS, TRAINING, expert_rows, experts, shared_rows
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.hunyuan import NORMS, AlphaRope
from jax_transformer.convert.hf.parts import Codec, Field, Fixed, Only
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, LAYER, PRE, modules, rms, sizes

HIDDEN = ("layer.ffn.expert.hidden_dim", "layer.ffn.shared.hidden_dim")
TOP_K = ("moe_topk", "num_experts_per_tok")


def uniform(value: Any) -> Any:
    """The one number of a list that has a number for each layer. Raises ValueError for several."""
    if not isinstance(value, list):
        return value
    (number,) = set(value)
    return number


HUNYUAN_MOE = Family(
    name="hunyuan_v1_moe",
    architecture="HunYuanMoEV1ForCausalLM",
    parts=(
        DECODER,
        *sizes(2048, hidden=HIDDEN),
        *rms(1e-5, "before_weight", "scale", "layer.attention.qk_norm.norm"),
        *experts("softmax_top_k", "num_experts", TOP_K, width="", defaults=(1, 1, None), shared=True),
        Field("layer.ffn.routing.top_k", TOP_K, 1, Codec(uniform, int)),
        *(
            Only(key, (True,), "transformers does not read it")
            for key in ("use_mixed_mlp_moe", "norm_topk_prob", "use_qk_norm")
        ),
        *(Only(key, (False,), "transformers does not read it") for key in ("use_cla", "mlp_bias", "group_limited_greedy")),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Fixed({"layer.attention.qk_norm.scope": "head", "layer.attention.qk_norm.place": "after_rope"}),
        AlphaRope(),
    ),
    rows=(
        *ENDS,
        *modules(LAYER, ATTENTION | PRE | NORMS | {"mlp.gate.wg": "ffn.router"} | shared_rows("mlp.shared_mlp")),
        *expert_rows("mlp", PROJECTIONS),
    ),
    harmless=f"{TRAINING} eod_token_id moe_intermediate_size num_shared_expert cla_share_factor",
)
