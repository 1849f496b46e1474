"""MiniMax-M2: queries and keys normalised over all heads, experts scored by sigmoids with a bias that only chooses."""

from typing import Any

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.experts import TRAINING, W123, expert_rows, experts, in_memory, said
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Fixed, Keys, Only
from jax_transformer.convert.hf.rope import share
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, LAYER, OURS, PRE, QK_NORM, modules, rms, sizes
from jax_transformer.convert.rows import Row


def turning(hf: Keys) -> float:
    """The share of each head that rotates, of ``rotary_dim``."""
    head_dim = hf.get("head_dim", 128)
    return share(hf.get("rotary_dim", head_dim), head_dim)


class RotaryWidth:
    """``rotary_dim``, which files have beside the share, or in its place."""

    def read(self, hf: Keys) -> Flat:
        """Nothing: ``turning`` is the default of the share."""
        hf.asked.add("rotary_dim")
        return {}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The width."""
        return {"rotary_dim": flat.get("layers.0.attention.position.rotary_dim")}


MINIMAX_M2 = Family(
    name="minimax_m2",
    architecture="MiniMaxM2ForCausalLM",
    parts=(
        DECODER,
        *sizes(196608, head_dim=128, kv_heads=8, hidden="layer.ffn.expert.hidden_dim"),
        *rms(1e-6, "before_weight", "scale", "layer.attention.qk_norm.norm"),
        *experts("sigmoid_top_k", ("num_local_experts", "num_experts"), width="", defaults=(256, 8, None)),
        Fixed({"layer.ffn.routing.choice_bias": True, "layer.attention.qk_norm.scope": "full"}),
        said("scoring_func", "sigmoid"),
        said("use_routing_bias", True),
        said("use_qk_norm", True),
        said("qk_norm_type", "per_layer"),
        Only("shared_intermediate_size", (0,), "this family has no network for every token"),
        RotaryWidth(),
        Rope(5e6, fraction=turning),
    ),
    rows=(
        *ENDS,
        *modules(LAYER, ATTENTION | PRE | QK_NORM | {"block_sparse_moe.gate": "ffn.router"}),
        *expert_rows("block_sparse_moe", W123),
        Row(f"{LAYER}block_sparse_moe.e_score_correction_bias", (f"{OURS}ffn.choice_bias",)),
        in_memory("mlp.gate.weight", ("router.weight",)),
        in_memory("mlp.e_score_correction_bias", ("choice_bias",)),
    ),
    harmless=TRAINING,
)
