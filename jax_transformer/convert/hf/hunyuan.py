"""Hunyuan, dense: queries and keys normalised after their rotation."""

from typing import Any

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Field, Fixed, Keys
from jax_transformer.convert.hf.skeleton import DECODER, LAYER, LLAMA_ROWS, feed_forward, modules, rms, sizes

NORMS = {"self_attn.query_layernorm": "attn.q_norm", "self_attn.key_layernorm": "attn.k_norm"}


class AlphaRope(Rope):
    """Rotary positions that files call ``dynamic``, but with an ``alpha`` that scales the base once and for all."""

    def read(self, hf: Keys) -> Flat:
        """The position of each layer; where there is an alpha, no other key of the scaling says anything."""
        entry = {**hf.get("rope_scaling", {}), **hf.get("rope_parameters", {})}
        if not entry.get("alpha") or "dynamic" not in (entry.get("type"), entry.get("rope_type")):
            return super().read(hf)
        theta = {"rope_theta": entry["rope_theta"]} if "rope_theta" in entry else {}
        plain = Keys({**hf.values, "rope_scaling": None, "rope_parameters": theta}, hf.label)
        values = super().read(plain)
        hf.asked |= plain.asked
        ntk = {"kind": "ntk", "factor": entry["alpha"]}
        layers = [path.removesuffix("base") for path in values if path.endswith(".base")]
        return values | {f"{layer}scaling.{name}": value for layer in layers for name, value in ntk.items()}

    def write(self, flat: Flat) -> dict[str, Any]:
        """Both spellings of the rotation."""
        keys = super().write(flat)
        scaling = "layers.0.attention.position.scaling"
        if flat.get(f"{scaling}.kind") == "ntk":
            keys["rope_parameters"] |= {"rope_type": "dynamic", "alpha": flat[f"{scaling}.factor"], "factor": 1.0}
            keys["rope_scaling"] = keys["rope_parameters"]
        return keys


HUNYUAN = Family(
    name="hunyuan_v1_dense",
    architecture="HunYuanDenseV1ForCausalLM",
    parts=(
        DECODER,
        *sizes(2048),
        *rms(1e-5, "before_weight", "scale", "layer.attention.qk_norm.norm"),
        *feed_forward("glu", "silu"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Fixed({"layer.attention.qk_norm.scope": "head", "layer.attention.qk_norm.place": "after_rope"}),
        AlphaRope(),
    ),
    rows=LLAMA_ROWS + modules(LAYER, NORMS),
    harmless="eod_token_id",
)
