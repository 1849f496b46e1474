"""DeepSeek-V2: latent attention, experts scored by a softmax, in groups or not."""

from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf.expert_parts import SharedExperts, groups
from jax_transformer.convert.hf.experts import (
    PROJECTIONS,
    TRAINING,
    AfterFirst,
    Mixtures,
    dense,
    expert_rows,
    experts,
    routed_scale,
    said,
    shared_rows,
)
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.latent import HARMLESS, LatentRope, latent_attention, latent_rows
from jax_transformer.convert.hf.parts import Field, Fixed, Keys, Missing, Only
from jax_transformer.convert.hf.skeleton import ENDS, GLU, LAYER, PRE, counts, modules, rms


class GreedyGroups:
    """``topk_method``: all experts, or those of the groups with the best expert."""

    def read(self, hf: Keys) -> Flat:
        """The groups. Raises ConfigError for a method that we do not know."""
        method = hf.get("topk_method", "greedy")
        count, kept = hf.get("n_group", None), hf.get("topk_group", None)
        if method not in ("greedy", "group_limited_greedy"):
            raise ConfigError(f"{hf.label}: topk_method={method!r}: wanted greedy or group_limited_greedy")
        return groups(count, kept, 1) if method != "greedy" else {"layer.ffn.routing.groups": None}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The method, and the groups if there are any."""
        path = "layers.0.ffn.routing.groups"
        if f"{path}.count" not in flat:
            return {"topk_method": "greedy"}
        counts = {"n_group": flat[f"{path}.count"], "topk_group": flat[f"{path}.kept"]}
        return {"topk_method": "group_limited_greedy"} | counts


MIXTURE = (
    *experts("softmax_top_k", ("n_routed_experts", "num_experts"), defaults=(64, Missing, 1407), shared=True),
    Fixed({"layer.ffn.routing.renormalize": False}),
    SharedExperts("n_shared_experts", 2, 1407),
    Field("layer.ffn.shared.bias", "mlp_bias", False),
    GreedyGroups(),
    routed_scale(1.0),
)
NAMES = shared_rows("mlp.shared_experts") | {"mlp.gate": "ffn.router"}

DEEPSEEK_V2 = Family(
    name="deepseek_v2",
    architecture="DeepseekV2ForCausalLM",
    parts=(
        *latent_attention(),
        *counts(2048),
        *rms(1e-6),
        Mixtures(AfterFirst(0), MIXTURE, (*dense(11008), Field("layer.ffn.bias", "mlp_bias", False))),
        said("moe_layer_freq", 1),
        said("scoring_func", "softmax"),
        Only("norm_topk_prob", (False,), "transformers does not read it"),
        LatentRope(),
    ),
    rows=ENDS + modules(LAYER, PRE | GLU | NAMES) + latent_rows() + expert_rows("mlp", PROJECTIONS),
    harmless=f"{TRAINING} {HARMLESS}",
)
