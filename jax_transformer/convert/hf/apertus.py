"""Apertus: Llama with normalised queries and keys, and an activation with two learned numbers per layer."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Field, Fixed, Keys, Only
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, LAYER, OURS, QK_NORM, modules, rms, sizes
from jax_transformer.convert.rows import Constant, Row

THETA = 12_000_000.0
DEFAULT = {
    "rope_type": "llama3",
    "rope_theta": THETA,
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
XIELU = {"beta": 0.5, "eps": -1e-6}
"""Numbers of the activation that are not learned, and that files have all the same."""


class ScaledRope:
    """A rotation that is scaled as in Llama 3.1 where the config says nothing."""

    def read(self, hf: Keys) -> Flat:
        """The rotation. Raises ConfigError for a theta alone: transformers 4 reads it, and 5 does not."""
        if hf.get("rope_parameters", None) or hf.get("rope_scaling", None):
            return Rope(THETA).read(hf)
        if (theta := hf.get("rope_theta", THETA)) != THETA:
            raise ConfigError(f"{hf.label}: rope_theta={theta} without a scaling: write rope_parameters, which say both")
        return Rope(THETA).read(Keys({**hf.values, "rope_parameters": DEFAULT}, hf.label))

    def write(self, flat: Flat) -> dict[str, Any]:
        """Both spellings."""
        return Rope(THETA).write(flat)


def always(number: float) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """The same number for every model."""
    return lambda facts: np.array(number, np.float32)


NORMS = {"attention_layernorm": "attn_norm", "feedforward_layernorm": "ffn_norm"}
NETWORK = {"mlp.up_proj": "ffn.up_proj", "mlp.down_proj": "ffn.down_proj"}

APERTUS = Family(
    name="apertus",
    architecture="ApertusForCausalLM",
    parts=(
        DECODER,
        *sizes(65536),
        *rms(1e-5, "before_weight", "scale", "layer.attention.qk_norm.norm"),
        Fixed({"layer.attention.qk_norm.scope": "head", "layer.ffn.kind": "mlp", "layer.ffn.activation": "xielu"}),
        Only("hidden_act", ("xielu",), "files of other activations have other tensors"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        ScaledRope(),
    ),
    rows=(
        *ENDS,
        *modules(LAYER, ATTENTION | QK_NORM | NORMS | NETWORK),
        *(Row(f"{LAYER}mlp.act_fn.{name}", (f"{OURS}ffn.activation.{name}",)) for name in ("alpha_p", "alpha_n")),
    ),
    constants=tuple(Constant(f"{LAYER}mlp.act_fn.{name}", always(number)) for name, number in XIELU.items()),
)
