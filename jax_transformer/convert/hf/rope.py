"""One rotation between Hugging Face's two spellings and ours.

Old: ``rope_theta``, ``rope_scaling`` (``type`` or ``rope_type``), ``partial_rotary_factor`` or ``rotary_pct`` at the top. New:
all in ``rope_parameters``, flat or by type of layer. Both are read, and written, so that old and new loaders agree.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Keys

FULL, SLIDING = "full_attention", "sliding_attention"
LOCAL_THETA = "rope_local_base_freq"

_LENGTH = "original_max_position_embeddings"
_SCALINGS: dict[str, tuple[str, dict[str, str]]] = {
    "linear": ("linear", {"factor": "factor"}),
    "dynamic": ("dynamic_ntk", {"factor": "factor"}),
    "yarn": (
        "yarn",
        {name: name for name in ("factor", "beta_fast", "beta_slow", "truncate", "attention_factor")}
        | {_LENGTH: "original_length"},
    ),
    "llama3": (
        "llama3",
        {"factor": "factor", "low_freq_factor": "low_frequency_factor", "high_freq_factor": "high_frequency_factor"}
        | {_LENGTH: "original_length"},
    ),
    "longrope": (
        "longrope",
        {"factor": "factor", "short_factor": "short_factors", "long_factor": "long_factors"}
        | {"attention_factor": "attention_factor", _LENGTH: "original_length"},
    ),
}
"""Their type -> our kind and their keys -> our fields."""

_OWN = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
_IDLE = {"finetuned", "original_base", "max_position_embeddings"}
"""Keys of old files that transformers does not read."""


RopeKeys = tuple[tuple[str, ...], tuple[str, ...]]
"""Old keys of theta, and of the share of each head that rotates."""

Fraction = float | Callable[[Keys], float]
"""A share of each head, or what makes it of other keys."""


def read_rope(hf: Keys, theta: float, kind: str | None, fraction: Fraction | None, keys: RopeKeys) -> Flat:
    """The rotation of layers of type ``kind`` (None: of all), by field; defaults are those of the family.

    Raises ConfigError for a scaling that we do not have, or keys of it that we do not know.
    """
    entry = rope_entry(hf, kind)
    hf.asked.add(_LENGTH)
    local = kind == SLIDING and LOCAL_THETA in hf.values
    own = hf.get(LOCAL_THETA if local else keys[0], theta)
    values: Flat = {"base": entry.get("rope_theta", own)}
    share = entry.get("partial_rotary_factor", hf.get(keys[1], fraction))
    if fraction is None and share not in (None, 1.0):
        raise ConfigError(f"{hf.label}: {keys[1][0]}={share}: this family rotates whole heads")
    values["fraction"] = 1.0 if share is None else share
    name = entry.get("rope_type", entry.get("type", "default"))
    name = "longrope" if name == "su" else name
    if name == "default":
        return values
    if name not in _SCALINGS:
        raise ConfigError(f"{hf.label}: rope_type={name!r}: wanted default or one of {list(_SCALINGS)}")
    ours, fields = _SCALINGS[name]
    complete = _completed(hf, name, entry)
    if unknown := complete.keys() - fields.keys() - _OWN - _IDLE - ({"mscale", "mscale_all_dim"} if name == "yarn" else set()):
        raise ConfigError(f"{hf.label}: rope of type {name} has keys that we do not know: {sorted(unknown)}")
    scaling = {fields[key]: value for key, value in complete.items() if key in fields and value is not None}
    return (
        values | {"scaling.kind": ours} | {f"scaling.{field}": value for field, value in scaling.items()} | _lengths(hf, ours)
    )


def write_rope(
    flat: Flat,
    layers: Mapping[str | None, int],
    fraction: Fraction | None,
    fraction_keys: tuple[str, ...],
    thetas: Mapping[str, float] | None,
) -> dict[str, Any]:
    """Both spellings of the rotations of ``layers`` (type, or None for all, to a layer that has it)."""
    entries = {kind: _written(flat, f"layers.{layer}.attention", fraction) for kind, layer in layers.items()}
    keys: dict[str, Any] = {}
    if None in entries:
        entry = entries[None]
        keys = {"rope_parameters": entry, "rope_theta": entry["rope_theta"]}
        keys["rope_scaling"] = None if entry["rope_type"] == "default" else entry
        if entry["rope_type"] == "longrope":
            keys[_LENGTH] = entry[_LENGTH]
        if fraction is not None:
            keys[fraction_keys[0]] = entry["partial_rotary_factor"]
    elif thetas:
        kinds = {str(kind): {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()}
        kinds |= {str(kind): entry for kind, entry in entries.items()}
        full = kinds[FULL]
        keys = {"rope_parameters": kinds, "rope_theta": full["rope_theta"]}
        keys["rope_scaling"] = None if full["rope_type"] == "default" else full
        if thetas[SLIDING] != thetas[FULL]:
            keys[LOCAL_THETA] = kinds[SLIDING]["rope_theta"]
    return keys


def rope_entry(hf: Keys, kind: str | None = None) -> dict[str, Any]:
    """The dict that speaks for layers of type ``kind`` (None: of all). Raises ConfigError where two spellings of it differ."""
    new, old = hf.get("rope_parameters", {}), hf.get("rope_scaling", {})
    if kind is not None:
        hf.asked.add(LOCAL_THETA)
        nested = any(isinstance(value, Mapping) for value in new.values())
        new = (new.get(kind) or {}) if nested else new if kind == FULL else {}
        old = old if kind == FULL else {}
    both = {key for key in new.keys() & old.keys() if new[key] != old[key]}
    if both:
        raise ConfigError(f"{hf.label}: rope_parameters and rope_scaling differ in {sorted(both)}: keep one of them")
    return {**old, **new}


def _completed(hf: Keys, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with what transformers derives from other keys."""
    entry = dict(entry)
    if name in ("yarn", "llama3", "longrope"):
        top = hf.get(_LENGTH, None)
        length = top if top is not None else entry.get(_LENGTH) or hf.get("max_position_embeddings")
        entry[_LENGTH] = length
        if name != "llama3" and entry.get("factor") is None:
            entry["factor"] = max(hf.get("max_position_embeddings") / length, 1.0)
    if name == "yarn" and entry.get("attention_factor") is None and entry.get("mscale") and entry.get("mscale_all_dim"):
        upper, lower = (magnitude(entry["factor"], entry[key]) for key in ("mscale", "mscale_all_dim"))
        entry["attention_factor"] = upper / lower
    return entry


def magnitude(factor: float, scale: float) -> float:
    """How much yarn enlarges queries and keys together, by ``mscale`` or ``mscale_all_dim``."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _lengths(hf: Keys, kind: str) -> Flat:
    return {"scaling.original_length": hf.get("max_position_embeddings")} if kind == "dynamic_ntk" else {}


def _written(flat: Flat, path: str, fraction: Fraction | None) -> dict[str, Any]:
    rope = {key.removeprefix(f"{path}.position."): value for key, value in flat.items() if key.startswith(f"{path}.position.")}
    entry: dict[str, Any] = {"rope_type": "default", "rope_theta": rope["base"]}
    if fraction is not None:
        entry["partial_rotary_factor"] = share(rope["rotary_dim"], flat[f"{path}.head_dim"])
    for name, (ours, fields) in _SCALINGS.items():
        if rope.get("scaling.kind") == ours:
            entry["rope_type"] = name
            entry |= {theirs: rope[f"scaling.{field}"] for theirs, field in fields.items() if f"scaling.{field}" in rope}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in entry.items()}


def share(rotary_dim: int, head_dim: int) -> float:
    """A fraction of which ``int(head_dim * fraction)`` is ``rotary_dim``."""
    fraction = rotary_dim / head_dim
    return fraction if int(head_dim * fraction) == rotary_dim else math.nextafter(fraction, 2.0)


@dataclass(frozen=True)
class RotaryDim:
    """GPT-J's ``rotary_dim``: how many dimensions of each head rotate, interleaved."""

    default: int

    def read(self, hf: Keys) -> Flat:
        """The share of each head."""
        head_dim = hf.get("n_embd") // hf.get("n_head")
        fraction = share(hf.get("rotary_dim", self.default), head_dim)
        return {f"layer.attention.position.{key}": value for key, value in (("fraction", fraction), *_INTERLEAVED)}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The number of dimensions."""
        return {"rotary_dim": flat["layers.0.attention.position.rotary_dim"]}


_INTERLEAVED = (("kind", "rope"), ("base", 10_000.0), ("layout", "interleaved"))
