"""Llama 4's text model: layers that rotate see chunks, the others grow with their position; experts get weighed inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.byte_ops import Chain, Fuse, Transpose
from jax_transformer.convert.hf.depth import FULL, Rope, turning_layers
from jax_transformer.convert.hf.experts import PROJECTIONS, TRAINING, Mixtures, experts, shared_rows, step_of
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Field, Fixed, Keys
from jax_transformer.convert.hf.skeleton import (
    ATTENTION,
    DECODER,
    ENDS,
    LAYER,
    OURS,
    PRE,
    feed_forward,
    heads,
    modules,
    rms,
    widths,
)
from jax_transformer.convert.rows import Row

CHUNKED, EPS = "chunked_attention", 1e-5
QK_NORM = {"norm.kind": "rms_norm", "norm.weight": "none", "norm.cast": "before_weight"}
QK_NORM |= {"scope": "head", "place": "after_rope"}


def turned(flat: Flat) -> list[bool]:
    """Whether each layer of a model rotates."""
    return [flat.get(f"layers.{i}.attention.position.kind") == "rope" for i in range(flat["stack.num_layers"])]


@dataclass(frozen=True)
class Chunks:
    """``attention_chunk_size`` of the layers of type ``chunked_attention``, by default those that rotate."""

    default: int

    def read(self, hf: Keys) -> Flat:
        """The chunk of each layer. Raises ConfigError for other types, or where no layer may have a chunk."""
        turning = turning_layers(hf, count := hf.layers("num_hidden_layers"))
        types = hf.get("layer_types", []) or [CHUNKED if turns else FULL for turns in turning[:count]]
        size = None if hf.is_null("attention_chunk_size") else hf.get("attention_chunk_size", self.default)
        if len(types) != count or not set(types) <= {FULL, CHUNKED}:
            raise ConfigError(f"{hf.label}: layer_types={types}: wanted {count} of {FULL} and {CHUNKED}")
        if CHUNKED in types and size is None:
            raise ConfigError(f"{hf.label}: attention_chunk_size is null, but layers are of type {CHUNKED}: give it, or {FULL}")
        return {f"layers.{i}.attention.chunk_size": size if kind == CHUNKED else None for i, kind in enumerate(types)}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The first chunk, since transformers asks for one even where no layer has any, and the types."""
        sizes = [flat.get(f"layers.{i}.attention.chunk_size") for i in range(flat["stack.num_layers"])]
        size = next((size for size in sizes if size is not None), self.default)
        return {"attention_chunk_size": size, "layer_types": [FULL if size is None else CHUNKED for size in sizes]}


@dataclass(frozen=True)
class Sharpened:
    """What keeps attention sharp: a norm without weights where queries and keys rotate, a temperature where they do not."""

    flag: str
    """A key that turns it on, as it is by default."""
    path: str
    turning: bool
    """Whether it is that of the layers that rotate."""
    fixed: Mapping[str, Any]
    fields: tuple[tuple[str, str, Any], ...]
    """Name, key and default of each number."""

    def read(self, hf: Keys) -> Flat:
        """The values of the layers that it is for."""
        on, count = hf.get(self.flag, True), hf.layers("num_hidden_layers")
        values = {**self.fixed, **{name: hf.get(key, default) for name, key, default in self.fields}}
        own = [i for i, turns in enumerate(turning_layers(hf, count)[:count]) if on and turns == self.turning]
        return {f"layers.{i}.attention.{self.path}.{name}": value for i in own for name, value in values.items()}

    def write(self, flat: Flat) -> dict[str, Any]:
        """Off where such a layer is without it; the numbers of the first layer that has them."""
        own = [f"layers.{i}.attention." for i, turns in enumerate(turned(flat)) if turns == self.turning]
        having = [layer for layer in own if f"{layer}{self.path}.{self.fields[0][0]}" in flat]
        numbers = {key: flat[f"{having[0]}{self.path}.{name}"] for name, key, _ in self.fields} if having else {}
        return {self.flag: len(having) == len(own)} | numbers


class StillEvery:
    """``no_rope_layer_interval``, which ``no_rope_layers`` overrides."""

    def read(self, hf: Keys) -> Flat:
        """Nothing: the rotation reads both."""
        return {}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The interval where there is one: some loaders know it alone."""
        return {"no_rope_layer_interval": step_of([not turns for turns in turned(flat)]) or 4}


class Listed:
    """``moe_layers``, or else every ``interleave_moe_layer_step``-th layer."""

    def read(self, hf: Keys, count: int) -> list[bool]:
        """Counted from 0 in the list, and from 1 by steps."""
        step, listed = hf.get("interleave_moe_layer_step", 1), hf.get("moe_layers", None)
        return [(layer + 1) % step == 0 if listed is None else layer in listed for layer in range(count)]

    def write(self, flags: list[bool]) -> dict[str, Any]:
        """The list, and the step where there is one: some loaders know it alone."""
        layers = [layer for layer, sparse in enumerate(flags) if sparse]
        return {"moe_layers": layers, "interleave_moe_layer_step": step_of(flags) or 1}


MIXTURE = (
    *experts("sigmoid_top_k", "num_local_experts", width="", defaults=(16, 1, None), shared=True),
    Field(("layer.ffn.expert.hidden_dim", "layer.ffn.shared.hidden_dim"), "intermediate_size", 8192),
    Fixed({"layer.ffn.weigh": "input", "layer.ffn.routing.renormalize": False}),
)
DENSE = (Field("layer.ffn.hidden_dim", "intermediate_size_mlp", 16384), *feed_forward("glu", "silu"))
NAMES = {f"feed_forward.{name}": f"ffn.{name}" for name in (*PROJECTIONS, "router")} | shared_rows("feed_forward.shared_expert")
TEMPERATURE = (("beta", "attn_scale", 0.1), ("original_length", "floor_scale", 8192))

LLAMA4 = Family(
    name="llama4_text",
    architecture="Llama4ForCausalLM",
    parts=(
        DECODER,
        *widths(131072),
        *heads(head_dim=128, kv_heads=8),
        *rms(EPS),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Mixtures(Listed(), MIXTURE, DENSE),
        Chunks(8192),
        Sharpened("use_qk_norm", "qk_norm", True, QK_NORM, (("norm.eps", "rms_norm_eps", EPS),)),
        Sharpened("attn_temperature_tuning", "query_temperature", False, {"offset": 1}, TEMPERATURE),
        StillEvery(),
        Rope(500_000.0, still="no_rope_layers", layout="interleaved"),
    ),
    rows=(
        *ENDS,
        *modules(LAYER, ATTENTION | PRE | NAMES),
        Row(
            f"{LAYER}feed_forward.experts.gate_up_proj",
            (f"{OURS}ffn.experts.gate_proj.weight", f"{OURS}ffn.experts.up_proj.weight"),
            Chain((Fuse(axis=1), Transpose())),
        ),
        Row(f"{LAYER}feed_forward.experts.down_proj", (f"{OURS}ffn.experts.down_proj.weight",), Transpose()),
    ),
    harmless=f"{TRAINING} cache_implementation for_llm_compressor",
)
