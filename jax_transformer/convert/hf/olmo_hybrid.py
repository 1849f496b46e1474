"""OLMo Hybrid: gated delta rules with norms before the branches, OLMo 3's attention on every fourth layer, often unrotated."""

from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.byte_ops import Insert
from jax_transformer.convert.hf.depth import FULL, Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.hybrid import (
    DELTA,
    LINEAR,
    NORM_EPS,
    OWN,
    SOFTMAX,
    Mixers,
    delta,
    delta_row,
    delta_rows,
)
from jax_transformer.convert.hf.olmo2 import OUTPUT
from jax_transformer.convert.hf.parts import Field, Fixed, Keys, Only
from jax_transformer.convert.hf.skeleton import (
    ATTENTION,
    ENDS,
    GLU,
    LAYER,
    QK_NORM,
    feed_forward,
    heads,
    modules,
    rms,
    widths,
)


def every_fourth_full(hf: Keys, count: int) -> list[str]:
    """The last layer of each four is full, and the last of all where there are fewer."""
    types = [LINEAR if (layer + 1) % 4 else FULL for layer in range(count)]
    return types if FULL in types else [*types[:-1], FULL]


class RopeOrNone:
    """The rotation of the full layers, or none: ``rope_theta`` is then null, as in the released model."""

    def read(self, hf: Keys) -> Flat:
        """The rotation. Raises ConfigError where ``rope_parameters`` alone is null: transformers changed what that means."""
        entry = hf.get("rope_parameters", {})
        if entry.get("rope_theta") is None and ("rope_theta" in entry or hf.is_null("rope_theta")):
            return {"layer.attention.position.kind": "none"}
        if hf.is_null("rope_parameters") and hf.get("rope_theta", None) is None:
            raise ConfigError(f"{hf.label}: rope_parameters is null: add rope_theta, null for no rotation, else a number")
        return Rope().read(hf)

    def write(self, flat: Flat) -> dict[str, Any]:
        """Both spellings of the rotation, or of none."""
        still = {"rope_theta": None, "rope_parameters": {"rope_theta": None, "rope_type": "default"}}
        return Rope().write(flat) or still


def key_dim(hf: Keys) -> int:
    """Three quarters of the width, divided among the heads."""
    return int(0.75 * hf.get("hidden_size") / hf.get("linear_num_key_heads", all_heads))


def all_heads(hf: Keys) -> int:
    """As many as of attention."""
    return hf.get("num_attention_heads")


def twice(hf: Keys) -> int:
    """Values are twice as wide as keys."""
    return 2 * hf.get("linear_key_head_dim", key_dim)


QK = "layer.attention.qk_norm"

OLMO_HYBRID = Family(
    name="olmo_hybrid",
    architecture="OlmoHybridForCausalLM",
    parts=(
        Fixed({"kind": "decoder"}),
        *widths(65536),
        Field("layer.ffn.hidden_dim", "intermediate_size"),
        *rms(1e-6, "after_weight"),
        *feed_forward("glu", "silu"),
        Only("hidden_act", ("silu", "swish"), "the short convolutions have it too, and ours have SiLU"),
        Mixers(
            every_fourth_full,
            full=(
                *heads(own_head_dim=False),
                Fixed({"layer.attention.kind": "softmax", "layer.placement": "output", f"{QK}.scope": "full"}),
                Fixed({f"{QK}.norm.kind": "rms_norm", f"{QK}.norm.cast": "after_weight"}),
                Field(f"{QK}.norm.eps", "rms_norm_eps", 1e-6),
                Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
                RopeOrNone(),
            ),
            linear=(
                *delta(Fixed({NORM_EPS: 1e-5}), all_heads, all_heads, key_dim, twice),
                Field("layer.attention.allow_neg_eigval", "linear_allow_neg_eigval", True),
            ),
        ),
    ),
    rows=(
        *ENDS,
        *modules(LAYER, ATTENTION | QK_NORM | OUTPUT, when=SOFTMAX),
        *modules(LAYER, {"attention_layer_norm": "attn_norm", "feedforward_layer_norm": "ffn_norm"}, when=DELTA),
        *modules(LAYER, GLU),
        *delta_rows(OWN | {f"{name}_proj.weight": f"{name}_proj.weight" for name in "qkvabo"}),
        *delta_rows({"g_proj.weight": "z_proj.weight", "o_norm.weight": "norm.weight"}),
        *(delta_row(f"{name}_conv1d.weight", (f"{name}_conv.weight",), Insert()) for name in "qkv"),
    ),
    harmless="linear_a_log_min linear_a_log_max linear_dt_min linear_dt_max linear_dt_init_floor",
)
