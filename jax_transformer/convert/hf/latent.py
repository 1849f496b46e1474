"""Multi-head latent attention as DeepSeek's files have it: widths, rotation with its factor on the scores, and rows."""

import math
from dataclasses import dataclass
from typing import Any

from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Equal, Field, Fixed, Keys, Part, preimage
from jax_transformer.convert.hf.rope import magnitude
from jax_transformer.convert.hf.skeleton import LAYER, fused, modules
from jax_transformer.convert.rows import Row

HARMLESS = "head_dim qk_head_dim"
"""Follow from the other widths; transformers does not read them from a file."""

NAMES = {
    "self_attn.q_proj": "attn.q_proj",
    "self_attn.q_a_proj": "attn.q_down_proj",
    "self_attn.q_a_layernorm": "attn.q_norm",
    "self_attn.q_b_proj": "attn.q_up_proj",
    "self_attn.kv_a_layernorm": "attn.kv_norm",
    "self_attn.o_proj": "attn.o_proj",
}


def latent_rows() -> tuple[Row, ...]:
    """Latent and rotated key come from one matrix, keys and values head by head from another."""
    return (
        *modules(LAYER, NAMES),
        *fused(f"{LAYER}self_attn.kv_a_proj_with_mqa", ("attn.kv_down_proj", "attn.k_rope_proj"), Fuse()),
        *fused(
            f"{LAYER}self_attn.kv_b_proj",
            ("attn.k_up_proj", "attn.v_up_proj"),
            Fuse("layers.{layer}.attention.num_heads"),
        ),
    )


def latent_attention() -> tuple[Part, ...]:
    """Widths and biases; the norms of the latents have an epsilon of their own."""
    norm = {"kind": "rms_norm", "eps": 1e-6, "weight": "scale", "cast": "before_weight"}
    reason = "latent attention expands keys and values for every head"
    return (
        Fixed({"kind": "decoder", "layer.attention.kind": "mla"}),
        Fixed({f"layer.attention.latent_norm.{name}": value for name, value in norm.items()}),
        Field("layer.attention.q_rank", "q_lora_rank", 1536, null=None),
        Field("layer.attention.kv_rank", "kv_lora_rank", 512),
        Field("layer.attention.nope_dim", "qk_nope_head_dim", 128),
        Field("layer.attention.rope_dim", "qk_rope_head_dim", 64),
        Field("layer.attention.v_dim", "v_head_dim", 128),
        Field(("layer.attention.down_bias", "layer.attention.o_bias"), "attention_bias", False),
        Equal("num_key_value_heads", "num_attention_heads", reason, "layers.0.attention.num_heads"),
    )


@dataclass(frozen=True)
class LatentRope(Rope):
    """Rotary positions, and a factor on the scores that grows with yarn's: ``mscale_all_dim`` of the rotation."""

    layout: str = "interleaved"
    chosen: bool = False
    """Whether the family has ``rope_interleave``."""

    def read(self, hf: Keys) -> Flat:
        """The position of each layer, and the factor of all."""
        values = super().read(hf)
        if self.chosen and not hf.get("rope_interleave", True):
            values |= {path: "half" for path in values if path.endswith(".layout")}
        entry = hf.get("rope_scaling", {}) | hf.get("rope_parameters", {})
        scale = (hf.get("qk_nope_head_dim", 128) + hf.get("qk_rope_head_dim", 64)) ** -0.5
        if entry.get("mscale_all_dim") and any(path.endswith(".scaling.factor") for path in values):
            scale = _scaled(scale, values["layers.0.attention.position.scaling.factor"], entry["mscale_all_dim"])
        return values | {"layer.attention.scale": scale}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The rotation with ``mscale`` and ``mscale_all_dim``, from which older code derives both factors."""
        keys = super().write(flat)
        first = "layers.0.attention"
        if self.chosen:
            keys["rope_interleave"] = flat[f"{first}.position.layout"] == "interleaved"
        factor, scale = flat.get(f"{first}.position.scaling.factor", 1.0), flat[f"{first}.scale"]
        plain = (flat[f"{first}.nope_dim"] + flat[f"{first}.rope_dim"]) ** -0.5
        if flat.get(f"{first}.position.scaling.kind") == "yarn" and factor > 1 and scale > plain:
            guess = (math.sqrt(scale / plain) - 1.0) / (0.1 * math.log(factor))
            below = preimage(lambda x: _scaled(plain, factor, x), scale, guess)
            above = magnitude(factor, below) * flat[f"{first}.position.scaling.attention_factor"]
            above = preimage(lambda x: magnitude(factor, x), above, (above - 1.0) / (0.1 * math.log(factor)))
            keys["rope_parameters"] |= {"mscale": above, "mscale_all_dim": below}
        return keys


def _scaled(scale: float, factor: float, share: float) -> float:
    size = magnitude(factor, share)
    return scale * size * size
