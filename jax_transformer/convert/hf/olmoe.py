"""OLMoE: queries and keys normalised over all heads, a mixture of experts in every layer."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.experts import PROJECTIONS, TRAINING, expert_rows, experts, renormalize
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed, Only
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, LAYER, PRE, QK_NORM, modules, rms, sizes

OLMOE = Family(
    name="olmoe",
    architecture="OlmoeForCausalLM",
    parts=(
        DECODER,
        *sizes(4096, own_head_dim=False, hidden="layer.ffn.expert.hidden_dim"),
        *rms(1e-5, "before_weight", "scale", "layer.attention.qk_norm.norm"),
        *experts("softmax_top_k", ("num_experts", "num_local_experts"), width="", defaults=(64, 8, None)),
        renormalize(False),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Fixed({"layer.attention.qk_norm.scope": "full"}),
        Only("clip_qkv", (None,), "this family clamps after its norms of queries and keys, we before them"),
        Rope(),
    ),
    rows=ENDS + modules(LAYER, ATTENTION | PRE | QK_NORM | {"mlp.gate": "ffn.router"}) + expert_rows("mlp", PROJECTIONS),
    harmless=TRAINING,
)
