"""The rotation of a file: keys of theta and of a linear scaling, and a tensor of divisors for what Llama 3.1 does."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.gguf.keys import Keys

_LOW, _HIGH = 1.0, 4.0
"""Turns within the original length below and above which Llama 3.1 and later slow a pair down: by a factor, or not at all."""
_ORIGINAL = "rope.scaling.original_context_length"
_RELEASED = 8192
"""Original length of Llama 3.1 to 3.3, whose files do not say it."""


def rotation(keys: Keys, divisors: list[float] | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Theta and scaling as in a config of Hugging Face, given its other ``values``.

    Divisors that are Llama 3.1's become its scaling; any other are those of ``longrope``, the same for every length.
    """
    theta = keys.get("rope.freq_base", 10_000.0)
    kind, factor = keys.get("rope.scaling.type", "none"), keys.get("rope.scaling.factor", 1.0)
    keys.expect("rope.scaling.type", ("none", "linear"), "no scaling or a linear one")
    length = values["max_position_embeddings"]
    original = keys.get(_ORIGINAL, None)
    if divisors is None:
        return {"rope_theta": theta} | ({"rope_scaling": {"rope_type": "linear", "factor": factor}} if kind == "linear" else {})
    scaling = {"rope_type": "llama3", "factor": divisors[-1], "low_freq_factor": _LOW, "high_freq_factor": _HIGH}
    scaling["original_max_position_embeddings"] = _RELEASED if original is None else original
    if _is_llama3(scaling, theta, values["head_dim"], divisors):
        return {"rope_theta": theta, "rope_scaling": scaling}
    scaling = {"rope_type": "longrope", "short_factor": divisors, "long_factor": divisors, "attention_factor": 1.0}
    scaling |= {"factor": 1.0, "original_max_position_embeddings": length if original is None else original}
    return {"rope_theta": theta, "rope_scaling": scaling}


def _is_llama3(scaling: Mapping[str, Any], theta: Any, head_dim: int, divisors: list[float]) -> bool:
    numbers = (theta, scaling["factor"], scaling["original_max_position_embeddings"])
    real = all(isinstance(number, int | float) and math.isfinite(number) and number > 0 for number in numbers)
    if not real or len(divisors) != -(-head_dim // 2):
        return False
    return np.allclose(divisors, divisors_of(scaling, theta, head_dim), rtol=1e-5, atol=0)


def rotation_keys(values: Mapping[str, Any], head_dim: int) -> tuple[dict[str, Any], np.ndarray | None]:
    """The keys of a rotation, and its divisors if it needs them. Raises ConfigError for one that no key says."""
    keys: dict[str, Any] = {"rope.freq_base": float(values["rope_theta"])}
    scaling = values.get("rope_scaling") or {"rope_type": "default"}
    kind, turns = scaling["rope_type"], (scaling.get("low_freq_factor"), scaling.get("high_freq_factor"))
    if kind == "default":
        return keys, None
    if kind == "linear":
        return keys | {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling["factor"])}, None
    if kind == "llama3" and turns == (_LOW, _HIGH):
        divisors = divisors_of(scaling, keys["rope.freq_base"], head_dim)
        return keys | {_ORIGINAL: scaling["original_max_position_embeddings"]}, divisors
    raise ConfigError(
        f"GGUF cannot express this model:\n  rotation: the model has the scaling {scaling}; wanted 'linear', none, or 'llama3' "
        f"with low_freq_factor {_LOW} and high_freq_factor {_HIGH}"
    )


def divisors_of(scaling: Mapping[str, Any], theta: float, head_dim: int) -> np.ndarray:
    """What Llama 3.1 divides the frequency of each pair by: 1 for fast ones, ``factor`` for slow ones."""
    lengths = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    turns = scaling["original_max_position_embeddings"] / lengths
    smooth = np.clip((turns - _LOW) / (_HIGH - _LOW), 0.0, 1.0)
    return (1 / ((1 - smooth) / scaling["factor"] + smooth)).astype(np.float32)
