"""gpt-oss: sink logits, every other layer with a window, experts with biases, stored as arrays with gate and up by turns."""

from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.byte_ops import Chain, Fuse, Transpose
from jax_transformer.convert.hf.depth import Rope, Window, every_full
from jax_transformer.convert.hf.experts import TRAINING
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Field, Fixed, Keys, Only
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, LAYER, OURS, PRE, modules, rms, sizes
from jax_transformer.convert.rows import Row

ROTATION = Rope(150_000.0)
BY_TURNS = Fuse("layers.{layer}.ffn.expert.hidden_dim", axis=1)


def ours(name: str) -> str:
    """A tensor of the experts."""
    return f"{OURS}ffn.experts.{name}"


class Scaled:
    """Without any rotation in its config, a gpt-oss of transformers is scaled 32 times."""

    def read(self, hf: Keys) -> Flat:
        """Nothing. Raises ConfigError where both spellings are missing."""
        if not (hf.get("rope_parameters", None) or hf.get("rope_scaling", None)):
            raise ConfigError(f"{hf.label}: rope_parameters is missing; a gpt_oss has to say how it rotates")
        return {}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The old spelling of a rotation that is not scaled, too: null would mean that one."""
        return {"rope_scaling": ROTATION.write(flat)["rope_parameters"]}


GPT_OSS = Family(
    name="gpt_oss",
    architecture="GptOssForCausalLM",
    parts=(
        DECODER,
        *sizes(131072, head_dim=64, kv_heads=8, hidden="layer.ffn.expert.hidden_dim"),
        *rms(1e-5, "after_weight"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", True),
        Fixed({"layer.attention.sink_logits": True, "layer.ffn.kind": "moe", "layer.ffn.router_bias": True}),
        Fixed({"layer.ffn.routing.kind": "top_k_softmax"}),
        Fixed({"layer.ffn.expert.kind": "clamped_glu", "layer.ffn.expert.bias": True}),
        Field("layer.ffn.num_experts", ("num_local_experts", "num_experts"), 128),
        Field("layer.ffn.routing.top_k", ("num_experts_per_tok", "experts_per_token"), 4),
        Field("layer.ffn.expert.limit", "swiglu_limit", 7.0),
        Field("layer.ffn.expert.alpha", "swiglu_alpha", 1.702),
        Only("hidden_act", ("silu",), "this family has the clamped SwiGLU"),
        Window(every_full(2), 128),
        Scaled(),
        ROTATION,
    ),
    rows=(
        *ENDS,
        *modules(LAYER, ATTENTION | PRE | {"mlp.router": "ffn.router"}),
        Row(f"{LAYER}self_attn.sinks", (f"{OURS}attn.sinks",)),
        Row(
            f"{LAYER}mlp.experts.gate_up_proj",
            (ours("gate_proj.weight"), ours("up_proj.weight")),
            Chain((BY_TURNS, Transpose())),
        ),
        Row(f"{LAYER}mlp.experts.gate_up_proj_bias", (ours("gate_proj.bias"), ours("up_proj.bias")), BY_TURNS),
        Row(f"{LAYER}mlp.experts.down_proj", (ours("down_proj.weight"),), Transpose()),
        Row(f"{LAYER}mlp.experts.down_proj_bias", (ours("down_proj.bias"),)),
    ),
    harmless=f"{TRAINING} initial_context_length",
)
