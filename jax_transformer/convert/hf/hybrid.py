"""Layers of softmax attention among layers of gated delta rules: the config parts and the rows that such families share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.byte_ops import Op
from jax_transformer.convert.hf.depth import FULL, TypesRule
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Field, Fixed, Keys, Part, as_first
from jax_transformer.convert.hf.skeleton import LAYER, OURS
from jax_transformer.convert.rows import SAME, Drop, Row

LINEAR = "linear_attention"
KIND = "layers.{layer}.attention.kind"
SOFTMAX, DELTA = (KIND, ("softmax",)), (KIND, ("gated_delta",))
"""Which layers a row speaks of, where both types have projections of one name."""
MULTI_TOKEN = Drop("mtp.*", "predicts further tokens, in training or to decode faster")


def every_full_among_linear(hf: Keys, count: int) -> list[str]:
    """One layer in ``full_attention_interval`` is full, the last of each group."""
    group = hf.get("full_attention_interval", 4)
    return [LINEAR if (layer + 1) % group else FULL for layer in range(count)]


@dataclass(frozen=True)
class Mixers:
    """``layer_types``, and what the layers of either type have; paths with ``layer.`` are about these layers only."""

    types: TypesRule
    """Where the config has no ``layer_types``."""
    full: tuple[Part, ...]
    linear: tuple[Part, ...]

    def read(self, hf: Keys) -> Flat:
        """The values of each layer's type."""
        count = hf.layers("num_hidden_layers")
        hf.asked.add("full_attention_interval")
        types = hf.get("layer_types", []) or self.types(hf, count)
        if len(types) != count or FULL not in types or not set(types) <= {FULL, LINEAR}:
            raise ConfigError(
                f"{hf.label}: layer_types={types}: wanted {count} of {FULL} and {LINEAR}, at least one of them full"
            )
        flat: Flat = {}
        for kind, parts in self._by_kind():
            layers = [layer for layer, own in enumerate(types) if own == kind]
            for part in parts:
                flat |= _of_layers(part.read(hf), layers)
        return flat

    def write(self, flat: Flat) -> dict[str, Any]:
        """The types, and the keys of those that there are."""
        kinds = [LINEAR if flat[KIND.format(layer=i)] == "gated_delta" else FULL for i in range(flat["stack.num_layers"])]
        keys: dict[str, Any] = {"layer_types": kinds}
        for kind, parts in self._by_kind():
            if kind in kinds:
                seen = as_first(flat, kinds.index(kind))
                for part in parts:
                    keys |= part.write(seen)
        return keys

    def _by_kind(self) -> tuple[tuple[str, tuple[Part, ...]], ...]:
        return (FULL, self.full), (LINEAR, self.linear)


def _of_layers(values: Flat, layers: Iterable[int]) -> Flat:
    """The values that speak of ``layers``."""
    flat: Flat = {}
    for path, value in values.items():
        head, _, rest = path.partition(".")
        if head == "layer":
            flat |= {f"layers.{layer}.{rest}": value for layer in layers}
        elif head != "layers" or int(rest.split(".")[0]) in layers:
            flat[path] = value
    return flat


def delta(eps: Part, heads: Any = 16, value_heads: Any = 32, key_dim: Any = 128, v_dim: Any = 128) -> tuple[Part, ...]:
    """Gated delta rules; ``eps`` gives the epsilon of their norm."""
    return (
        Fixed({"layer.attention.kind": "gated_delta", "layer.attention.norm.kind": "rms_norm"}),
        Field("layer.attention.num_key_heads", "linear_num_key_heads", heads),
        Field("layer.attention.num_value_heads", "linear_num_value_heads", value_heads),
        Field("layer.attention.key_dim", "linear_key_head_dim", key_dim),
        Field("layer.attention.v_dim", "linear_value_head_dim", v_dim),
        Field("layer.attention.conv_width", "linear_conv_kernel_dim", 4),
        eps,
    )


NORM_EPS = "layer.attention.norm.eps"
OWN = {name: name for name in ("A_log", "dt_bias")}
"""Gates that every family names alike."""


def delta_rows(names: dict[str, str]) -> tuple[Row, ...]:
    """Rows of one tensor each: their name below ``linear_attn`` to ours."""
    return tuple(delta_row(theirs, (ours,)) for theirs, ours in names.items())


def delta_row(theirs: str, ours: tuple[str, ...], op: Op = SAME) -> Row:
    """One row of a gated delta rule."""
    return Row(f"{LAYER}linear_attn.{theirs}", tuple(f"{OURS}attn.{name}" for name in ours), op, DELTA)
