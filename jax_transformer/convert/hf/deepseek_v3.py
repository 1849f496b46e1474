"""DeepSeek-V3 and R1: latent attention, experts in groups, scored by sigmoids with a bias that only chooses."""

from jax_transformer.convert.hf.experts import (
    PROJECTIONS,
    TRAINING,
    AfterFirst,
    Mixtures,
    dense,
    expert_rows,
    grouped_mixture,
    said,
    shared_rows,
)
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.latent import HARMLESS, LatentRope, latent_attention, latent_rows
from jax_transformer.convert.hf.skeleton import ENDS, GLU, LAYER, OURS, PRE, counts, modules, rms
from jax_transformer.convert.rows import Row

MIXTURE = grouped_mixture(("n_routed_experts", "num_local_experts"), (256, 8, 2048), 1, (8, 4), renormalized=True, scale=2.5)
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
        said("moe_layer_freq", 1),
        said("scoring_func", "sigmoid"),
        said("topk_method", "noaux_tc"),
        LatentRope(chosen=True),
    ),
    rows=ENDS + modules(LAYER, PRE | GLU | NAMES) + latent_rows() + CHOICE_BIAS + expert_rows("mlp", PROJECTIONS),
    further=FURTHER,
    harmless=f"{TRAINING} {HARMLESS}",
)
