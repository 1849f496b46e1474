"""What differs from layer to layer, as Hugging Face spells it: windows and rotary positions by type of layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Keys, Missing
from jax_transformer.convert.hf.rope import Fraction, RopeKeys, read_rope, write_rope

FULL, SLIDING = "full_attention", "sliding_attention"

TypesRule = Callable[[Keys, int], list[str]]
"""The type of each layer, where the config has no ``layer_types``."""


def all_full(hf: Keys, count: int) -> list[str]:
    """No layer has a window."""
    return [FULL] * count


def all_sliding(hf: Keys, count: int) -> list[str]:
    """Every layer has the window, where there is one (Mistral)."""
    return [SLIDING] * count


def sliding_from(default: int) -> TypesRule:
    """Layers from ``max_window_layers`` on have the window."""

    def rule(hf: Keys, count: int) -> list[str]:
        full = hf.get("max_window_layers", default)
        return [SLIDING if layer >= full else FULL for layer in range(count)]

    return rule


last_sliding = sliding_from(28)
"""As Qwen 2 has it."""


def every_full(default: int, key: str | tuple[str, ...] = ()) -> TypesRule:
    """One layer in ``default`` (or what ``key`` says) is full, the last of each group (Gemma 3, OLMo 3, Cohere 2)."""

    def rule(hf: Keys, count: int) -> list[str]:
        group = hf.get(key, default) if key else default
        return [SLIDING if (layer + 1) % group else FULL for layer in range(count)]

    return rule


def turning_layers(hf: Keys, count: int) -> list[bool]:
    """Whether each layer rotates: ``no_rope_layers`` has 1 where it does (SmolLM 3)."""
    interval = hf.get("no_rope_layer_interval", 4)
    listed = hf.get("no_rope_layers", [])
    return list(map(bool, listed)) if listed else [(layer + 1) % interval != 0 for layer in range(count)]


@dataclass(frozen=True)
class Window:
    """``sliding_window`` and the layers that have it."""

    types: TypesRule = all_full
    default: Any = None
    """The window where the key is missing."""
    flag: str | None = None
    """A key that turns all windows off."""
    listed: bool = True
    """Whether the family knows ``layer_types``."""
    idle: int | None = None
    """What is written where no layer has a window, for a family that wants one all the same."""

    def read_types(self, hf: Keys) -> tuple[list[str], int | None]:
        """Every layer's type and the window of the sliding ones."""
        count = hf.layers(("num_hidden_layers", "n_layer"))
        window = None if hf.is_null("sliding_window") else hf.get("sliding_window", self.default)
        off = self.flag is not None and not hf.get(self.flag, False)
        rule = self.types if window is not None and not off else all_full
        types = hf.get("layer_types", []) if self.listed else []
        types = types or rule(hf, count)
        if len(types) != count or not set(types) <= {FULL, SLIDING}:
            raise ConfigError(f"{hf.label}: layer_types={types}: wanted {count} of {FULL} and {SLIDING}")
        if SLIDING in types and (window is None or off):
            raise ConfigError(f"{hf.label}: layer_types has {SLIDING}, but sliding_window is null or {self.flag} is false")
        hf.asked |= {"max_window_layers", "sliding_window_pattern", "_sliding_window_pattern"} if self.listed else set()
        return types, window

    def read(self, hf: Keys) -> Flat:
        """The window of each layer."""
        types, window = self.read_types(hf)
        return {f"layers.{i}.attention.window": window if kind == SLIDING else None for i, kind in enumerate(types)}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The window, its flag and, where the family knows them, the types and what old files have in their place."""
        windows = [flat.get(f"layers.{i}.attention.window") for i in range(flat["stack.num_layers"])]
        width = next((window for window in windows if window is not None), None)
        keys: dict[str, Any] = {"sliding_window": self.idle if width is None else width}
        if self.flag is not None:
            keys[self.flag] = width is not None
        if self.listed:
            keys["layer_types"] = [FULL if window is None else SLIDING for window in windows]
        if self.types is last_sliding:
            keys["max_window_layers"] = next((i for i, window in enumerate(windows) if window is not None), len(windows))
        return keys


@dataclass(frozen=True)
class Rope:
    """Rotary positions: one rotation, or one for each type of layer; ``still`` layers do not rotate at all."""

    theta: float = 10_000.0
    fraction: Fraction | None = None
    """Default share of each head that rotates; None: the family rotates all of it and has no key for less."""
    keys: RopeKeys = (("rope_theta",), ("partial_rotary_factor",))
    window: Window | None = None
    """Says which layers are of which type, for a family that asks."""
    thetas: Mapping[str, float] | None = None
    """Default theta by type of layer, for a family with one rotation for each."""
    still: str | None = None
    """``no_rope_layers``, or a type of layer."""
    still_alone: bool = True
    """Whether such layers are still in a model without windows too."""
    layout: str = "half"

    def read(self, hf: Keys) -> Flat:
        """The position of each layer."""
        count = hf.layers(("num_hidden_layers", "n_layer"))
        types, width = self.window.read_types(hf) if self.window else ([FULL] * count, None)
        values: Flat = {}
        for layer, kind in enumerate(types):
            path = f"layers.{layer}.attention.position"
            if not self._turns(hf, layer, kind) and (width is not None or self.still_alone):
                values[f"{path}.kind"] = "none"
                continue
            theta = self.thetas[kind] if self.thetas else self.theta
            rope = read_rope(hf, theta, kind if self.thetas else None, self.fraction, self.keys)
            values |= {f"{path}.{name}": value for name, value in rope.items()}
            values |= {f"{path}.kind": "rope", f"{path}.layout": self.layout}
        return values

    def write(self, flat: Flat) -> dict[str, Any]:
        """Both spellings of the rotations, and the list of still layers."""
        count = flat["stack.num_layers"]
        kinds = [flat.get(f"layers.{i}.attention.position.kind") for i in range(count)]
        turning = [i for i in range(count) if kinds[i] == "rope"]
        chosen: dict[str | None, int] = {None: turning[0]} if turning and not self.thetas else {}
        if self.thetas:
            for i in reversed(turning):
                chosen[FULL if flat.get(f"layers.{i}.attention.window") is None else SLIDING] = i
        keys = write_rope(flat, chosen, self.fraction, self.keys[1], self.thetas)
        if self.still == "no_rope_layers":
            keys["no_rope_layers"] = [int(kind == "rope") for kind in kinds]
        return keys

    def _turns(self, hf: Keys, layer: int, kind: str) -> bool:
        if self.still == "no_rope_layers":
            return turning_layers(hf, hf.layers("num_hidden_layers"))[layer]
        return kind != self.still


def length(hf: Keys, default: Any = Missing) -> int:
    """The longest sequence: the context, times the factor of a scaling that starts where it ends."""
    positions = hf.get(("max_position_embeddings", "n_positions"), default)
    scaling = hf.get("rope_scaling", hf.get("rope_parameters", {}))
    if scaling.get("rope_type", scaling.get("type")) == "dynamic":
        return int(positions * scaling["factor"])
    return positions


@dataclass(frozen=True)
class Context:
    """``max_position_embeddings``: how long a sequence may be and, for dynamic scaling, where it begins."""

    default: int

    def read(self, hf: Keys) -> Flat:
        """The longest sequence."""
        return {"max_length": length(hf, self.default)}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The original length of dynamic scaling, else the longest sequence."""
        scalings = {flat.get(f"layers.{i}.attention.position.scaling.kind"): i for i in range(flat["stack.num_layers"])}
        if "dynamic_ntk" in scalings:
            path = f"layers.{scalings['dynamic_ntk']}.attention.position.scaling.original_length"
            return {"max_position_embeddings": flat[path]}
        return {"max_position_embeddings": flat["max_length"]}
