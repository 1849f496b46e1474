"""A model config as a flat map from paths to values, with every default filled in, and back.

Paths are those of the config, with ``layers.3.`` for a layer of the stack: ``layers.3.attention.window``,
``encoder.layers.0.norm.eps``. To build a config, ``layer.`` stands for all layers and ``layers.3.`` overrides it.
What only training sees (dropout, initial values) and what only says how to compute (recomputation, forms) is left out: it
does not change what a checkpoint computes.
"""

import re
from collections.abc import Mapping
from typing import Any

from jax_transformer.config import (
    Block,
    Complex,
    CrossAttention,
    Decoder,
    DenseFfn,
    Encoder,
    EncoderDecoder,
    Linear,
    Mla,
    Model,
    Moe,
    Rope,
    Softmax,
    Tower,
)
from jax_transformer.config.errors import ConfigError
from jax_transformer.config.load import make_config

Flat = dict[str, Any]
"""Path to value; what is None is left out."""

KINDS = {"decoder": Decoder, "encoder": Encoder, "encoder_decoder": EncoderDecoder}

MAX_LAYERS = 10_000
"""More are no model; every layer is written out."""

_TRAINING = {"dropout", "drop_path", "drop_path_schedule", "init", "router_noise", "load_balance_weight", "router_z_weight"}
_EXECUTION = {"remat", "unroll", "dtype", "hybrid_ratio", "implementation", "chunk"}
_LAYER = re.compile(r"((?:encoder\.|decoder\.)?)layers?\.(?:(\d+)\.)?(.+)")


def flatten(model: Model) -> Flat:
    """Every value of ``model`` that changes what it computes, by path, in one spelling."""
    tree = model.model_dump()
    if isinstance(model, EncoderDecoder):
        for name in ("encoder", "decoder"):
            tower: Tower = getattr(model, name)
            tree[name]["d_model"] = tower.d_model or model.d_model
            _fill_in(tree[name], tower, tree[name]["d_model"])
    else:
        _fill_in(tree, model, model.d_model)
    return dict(_leaves(tree, ""))


def build(values: Mapping[str, Any], label: str) -> Model:
    """The config that has these values; ``label`` names where they come from.

    Raises ConfigError, listing every problem, where there is none.
    """
    tree: dict[str, Any] = {}
    shared: dict[str, Flat] = {}
    own: dict[tuple[str, int], Flat] = {}
    for path, value in values.items():
        if match := _LAYER.fullmatch(path):
            target = shared.setdefault(match[1], {}) if match[2] is None else own.setdefault((match[1], int(match[2])), {})
            target[match[3]] = value
        elif value is not None:
            _insert(tree, path, value)
    for tower, common in shared.items():
        stack = tree[tower[:-1]]["stack"] if tower else tree["stack"]
        count = stack["num_layers"]
        if type(count) is not int or count > MAX_LAYERS:
            raise ConfigError(f"{label}: {count!r} layers: wanted at most {MAX_LAYERS}")
        layers = [_nest(common | own.get((tower, number), {})) for number in range(count)]
        first, period = _shortest(layers)
        stack["first"], stack["pattern"] = layers[:first], layers[first : first + period]
    for name in ("", "encoder", "decoder"):
        part = tree.get(name, {}) if name else tree
        part.setdefault("final_norm", None)
    for name in {"encoder", "decoder"} - values.keys():
        if not any(path.startswith(f"{name}.") for path in values):
            tree.pop(name, None)
    if tree["kind"] == "encoder_decoder":
        del tree["final_norm"]
    return make_config(KINDS[tree["kind"]], tree, label)


def without_bounds(flat: Flat) -> Flat:
    """``flat`` without the lengths that only bound what the model accepts; of a learned table they are its size."""
    bounds = () if "learned" in flat.values() else ("max_length", "max_source_length")
    return {path: value for path, value in flat.items() if path not in bounds}


def differences(ours: Flat, theirs: Flat, names: tuple[str, str] = ("the model", "the family")) -> list[str]:
    """``path: the model has x, the family y`` for every value that differs, the same one of many layers once."""
    found: dict[tuple[str, Any, Any], list[str]] = {}
    ours, theirs = without_bounds(ours), without_bounds(theirs)
    for path in sorted(ours.keys() | theirs.keys()):
        if ours.get(path) != theirs.get(path):
            match = _LAYER.fullmatch(path)
            general = f"{match[1]}layer.{match[3]}" if match else path
            found.setdefault((general, repr(ours.get(path)), repr(theirs.get(path))), []).append(path)
    return [f"{paths[0]}: {names[0]} has {a}, {names[1]} {b}" for (_, a, b), paths in found.items()]


def _fill_in(tree: dict[str, Any], tower: Decoder | Encoder | Tower, d_model: int) -> None:
    tree["embedding"] |= {"scale": tower.embedding.factor(d_model), "dim": tower.embedding.width(d_model)}
    tree["layers"] = {str(number): _block(block, d_model) for number, block in enumerate(tower.stack.layers)}
    del tree["stack"]["pattern"], tree["stack"]["first"]


def _block(block: Block, d_model: int) -> dict[str, Any]:
    tree = block.model_dump()
    for name, attention in (("attention", block.attention), ("cross_attention", block.cross_attention)):
        if attention is None:
            continue
        if isinstance(attention, Softmax | CrossAttention | Complex | Mla):
            tree[name]["scale"] = attention.score_scale
        if isinstance(attention, Softmax | CrossAttention | Linear):
            tree[name]["num_kv_heads"] = attention.kv_heads
        if isinstance(attention, Softmax | Mla) and isinstance(position := attention.position, Rope):
            width = attention.rope_dim if isinstance(attention, Mla) else attention.head_dim
            tree[name]["position"]["rotary_dim"] = position.rotary_dim(width)
            del tree[name]["position"]["fraction"]
            if position.scaling is not None and hasattr(position.scaling, "magnitude"):
                tree[name]["position"]["scaling"]["attention_factor"] = position.scaling.magnitude
    if isinstance(block.ffn, Moe):
        networks = {"expert": block.ffn.expert} | ({} if block.ffn.shared is None else {"shared": block.ffn.shared})
        tree["ffn"] |= {name: _network(network, d_model) for name, network in networks.items()}
    else:
        tree["ffn"] = _network(block.ffn, d_model)
    return tree


def _network(ffn: DenseFfn, d_model: int) -> dict[str, Any]:
    kept = {key: value for key, value in ffn.model_dump().items() if key not in ("expansion_factor", "multiple_of")}
    return kept | {"hidden_dim": ffn.width(d_model)}


def _leaves(tree: Mapping[str, Any], prefix: str):
    for key, value in tree.items():
        if key in _TRAINING | _EXECUTION or value is None:
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _insert(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value


def _nest(flat: Flat) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    absent = tuple(f"{path}." for path, value in flat.items() if value is None)
    for path, value in flat.items():
        if value is not None and not path.startswith(absent):
            _insert(tree, path, value)
    return tree


def _shortest(layers: list[dict[str, Any]]) -> tuple[int, int]:
    """The fewest blocks that say what all layers are: how many come first, and the length of the pattern after them."""
    numbers = [layers.index(layer) for layer in layers]
    best = (0, len(layers))
    for first in range(len(layers)):
        for period in range(1, sum(best) - first):
            if all(numbers[i] == numbers[i - period] for i in range(first + period, len(layers))):
                best = (first, period)
                break
    return best
