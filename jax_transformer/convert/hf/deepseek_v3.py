"""DeepSeek-V3 and R1: latent attention, experts in groups, scored by sigmoids with a bias that only chooses."""

from jax_transformer.convert.hf.experts import (
    PROJECTIONS,
    TRAINING,
    AfterFirst,
    Groups,
    Mixtures,
    SharedExperts,
    dense,
    expert_rows,
    experts,
    renormalize,
    routed_scale,
    shared_rows,
)
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.latent import HARMLESS, LatentRope, latent_attention, latent_rows
from jax_transformer.convert.hf.parts import Fixed, Only
from jax_transformer.convert.hf.skeleton import ENDS, GLU, LAYER, OURS, PRE, counts, modules, rms
from jax_transformer.convert.rows import Row

MIXTURE = (
    *experts("sigmoid_top_k", ("n_routed_experts", "num_local_experts"), defaults=(256, 8, 2048), shared=True),
    Fixed({"layer.ffn.routing.choice_bias": True}),
    SharedExperts("n_shared_experts", 1, 2048),
    Groups((8, 4)),
    renormalize(True),
    routed_scale(2.5),
)
NAMES = shared_rows("mlp.shared_experts") | {"mlp.gate": "ffn.router"}
CHOICE_BIAS = (Row(f"{LAYER}mlp.gate.e_score_correction_bias", (f"{OURS}ffn.choice_bias",)),)
FURTHER = ("num_nextn_predict_layers", "num_mtp_layers")

DEEPSEEK_V3 = Family(
    name="deepseek_v3",
    architecture="DeepseekV3ForCausalLM",
    parts=(
        *latent_attention(),
        *counts(4096),
        *rms(1e-6),
        Mixtures(AfterFirst(3), MIXTURE, dense(18432)),
        Only("moe_layer_freq", (1,), "every layer after the first ones is a mixture"),
        Only("scoring_func", ("sigmoid",), "this family scores by the sigmoid"),
        Only("topk_method", ("noaux_tc",), "this family chooses by groups and a bias"),
        LatentRope(chosen=True),
    ),
    rows=ENDS + modules(LAYER, PRE | GLU | NAMES) + latent_rows() + CHOICE_BIAS + expert_rows("mlp", PROJECTIONS),
    further=FURTHER,
    harmless=f"{TRAINING} {HARMLESS}",
)
