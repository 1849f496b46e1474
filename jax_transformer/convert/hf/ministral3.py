"""Ministral 3: Mistral with YaRN, and queries that grow with their position."""

from typing import Any

from jax_transformer.convert.hf.depth import Rope, Window, all_sliding
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Keys, at
from jax_transformer.convert.hf.rope import rope_entry
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, feed_forward, rms, sizes

BETA, LENGTH = "llama_4_scaling_beta", "original_max_position_embeddings"
TEMPERATURE = "layer.attention.query_temperature"
DEFAULT = {
    "rope_type": "yarn",
    "rope_theta": 1_000_000.0,
    "factor": 16.0,
    LENGTH: 16_384,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    BETA: 0.1,
}


class TemperedRope:
    """``rope_parameters``, or ``rope_scaling``, which hold the temperature of queries beside the rotation."""

    def read(self, hf: Keys) -> Flat:
        """Rotation and temperature; both have the length of the original training."""
        entry = rope_entry(hf) or DEFAULT
        own = {f"{TEMPERATURE}.beta": entry[BETA], f"{TEMPERATURE}.original_length": entry[LENGTH]}
        rest = {key: value for key, value in entry.items() if key != BETA}
        rotation = Keys({**hf.values, "rope_parameters": rest, "rope_scaling": None}, hf.label)
        values = Rope(1_000_000.0).read(rotation)
        hf.asked |= rotation.asked
        return values | own

    def write(self, flat: Flat) -> dict[str, Any]:
        """Both spellings, each with the temperature."""
        keys = Rope().write(flat)
        own = {BETA: at(flat, f"{TEMPERATURE}.beta"), LENGTH: at(flat, f"{TEMPERATURE}.original_length")}
        entry = keys["rope_parameters"] | own
        return keys | {"rope_parameters": entry, "rope_scaling": entry}


MINISTRAL3 = Family(
    name="ministral3",
    architecture="Ministral3ForCausalLM",
    parts=(
        DECODER,
        *sizes(262_144, head_dim=128, kv_heads=8),
        *rms(1e-5),
        *feed_forward("glu", "silu"),
        Window(all_sliding, listed=False),
        TemperedRope(),
    ),
    rows=LLAMA_ROWS,
)
