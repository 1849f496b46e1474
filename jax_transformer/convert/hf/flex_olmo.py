"""FlexOlmo: OLMo 2 with a mixture of experts in every layer."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.experts import PROJECTIONS, TRAINING, expert_rows, experts, renormalize
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.olmo2 import OUTPUT
from jax_transformer.convert.hf.parts import Field, Fixed
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, LAYER, QK_NORM, modules, rms, sizes

FLEX_OLMO = Family(
    name="flex_olmo",
    architecture="FlexOlmoForCausalLM",
    parts=(
        DECODER,
        *sizes(4096, hidden="layer.ffn.expert.hidden_dim"),
        *rms(1e-6, "after_weight", "scale", "layer.attention.qk_norm.norm"),
        *experts("softmax_top_k", ("num_experts", "num_local_experts"), width="", defaults=(7, 5, None)),
        renormalize(False),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Fixed({"layer.placement": "output", "layer.attention.qk_norm.scope": "full"}),
        Rope(500_000.0),
    ),
    rows=ENDS + modules(LAYER, ATTENTION | OUTPUT | QK_NORM | {"mlp.gate": "ffn.router"}) + expert_rows("mlp", PROJECTIONS),
    harmless=TRAINING,
)
