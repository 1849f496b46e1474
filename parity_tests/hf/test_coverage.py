"""The cases of a family have every variation that its config can express: what no case varies, no case proves."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import combinations
from typing import Any

import pytest

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf import FAMILY
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat, differences, flatten
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import their_config

BY_TENSORS = {"t5": {"untied"}, "mt5": {"untied"}}
"""What the config of a family cannot say to transformers: there two matrices that differ say it (``test_folders.py``)."""

BIASES = ("attention.qkv_bias", "attention.o_bias", "ffn.bias")
SHORTEST = 11
"""Tokens of the shortest input of the tests, which has to be longer than a window."""


@cache
def cases(name: str) -> list[Flat]:
    """Our values of every case of a family."""
    own = [json.loads(their_config(case).to_json_string()) for case, (model_type, _) in CASES.items() if model_type == name]
    return [flatten(FAMILY[name].read_config(keys, name)) for keys in own]


def values(flat: Flat, name: str) -> list[Any]:
    """What the layers of all towers have."""
    return [value for path, value in flat.items() if path.endswith(f".{name}") and "layers." in path and "cross" not in path]


def changed(flat: Flat, changes: Mapping[str, Any]) -> Flat:
    """Other values in every layer that has one."""
    new = dict(flat)
    for name, value in changes.items():
        new |= {path: value for path in flat if path.endswith(f".{name}") and "cross" not in path}
    return new


def expresses(family: Family, flat: Flat) -> bool:
    """Whether a config of the family can say all of this."""
    try:
        keys: dict[str, Any] = {}
        for part in family.parts:
            written = part.write(flat).items()
            keys |= {key: value for key, value in written if value is not None or key not in keys}
        return not differences(flat, flatten(family.read_config(keys, family.name)))
    except (ConfigError, KeyError, TypeError, AttributeError, ValueError):
        return False


def wider(flat: Flat) -> Flat:
    """Heads of two dimensions more, and what follows from them."""
    new = dict(flat)
    for path, width in flat.items():
        if path.endswith(".attention.head_dim"):
            attention = path.removesuffix("head_dim")
            new[path] = width + 2
            if flat.get(f"{attention}position.rotary_dim") == width:
                new[f"{attention}position.rotary_dim"] = width + 2
            if flat.get(f"{attention}scale") == width**-0.5:
                new[f"{attention}scale"] = (width + 2) ** -0.5
    return new


def scaled(flat: Flat) -> Flat:
    """Rotations that are interpolated."""
    paths = [path.removesuffix("kind") for path, value in flat.items() if path.endswith(".position.kind") and value == "rope"]
    new = {path: value for path, value in flat.items() if ".scaling." not in path}
    return new | {f"{path}scaling.{key}": value for path in paths for key, value in (("kind", "linear"), ("factor", 4.0))}


def windowed(flat: Flat) -> Flat:
    """A window in every layer of softmax attention."""
    paths = [path for path in flat if path.endswith(".attention.num_kv_heads")]
    return flat | {path.replace("num_kv_heads", "window"): 5 for path in paths}


def is_free(flat: Flat) -> bool:
    """Whether heads together are not as wide as the model."""
    pairs = zip(values(flat, "attention.num_heads"), values(flat, "attention.head_dim"), strict=False)
    return any(count * width != flat["d_model"] for count, width in pairs)


VARIATIONS: dict[str, tuple[Callable[[Flat], Flat], Callable[[Flat], bool]]] = {
    "tied": (lambda flat: flat | {"head.tied": True}, lambda flat: flat.get("head.tied") is True),
    "untied": (lambda flat: flat | {"head.tied": False}, lambda flat: flat.get("head.tied") is False),
    "one key/value head": (
        lambda flat: changed(flat, {"attention.num_kv_heads": 1}),
        lambda flat: 1 in values(flat, "attention.num_kv_heads"),
    ),
    "free width of heads": (wider, is_free),
    "window shorter than the input": (windowed, lambda flat: any(w < SHORTEST for w in values(flat, "attention.window"))),
    "scaled rotation": (scaled, lambda flat: bool(values(flat, "position.scaling.kind"))),
    "odd number of layers": (lambda flat: flat, lambda flat: any(n % 2 for p, n in flat.items() if p.endswith("num_layers"))),
}
"""How a model becomes one that varies in this, and whether it does."""


def bias_variations() -> Iterable[tuple[str, Callable[[Flat], Flat], Callable[[Flat], bool]]]:
    """Each bias there and not there, alone or with others: some families have one key for several."""
    for name in BIASES:
        for value in (True, False):
            for count in range(len(BIASES)):
                for others in combinations([other for other in BIASES if other != name], count):
                    yield (
                        f"{name}={value}",
                        lambda flat, names=(name, *others), value=value: changed(flat, dict.fromkeys(names, value)),
                        lambda flat, name=name, value=value: value in values(flat, name),
                    )


@pytest.mark.parametrize("name", FAMILY)
def test_what_a_family_can_vary_some_case_varies(name: str):
    flats = cases(name)
    every = [*((what, *both) for what, both in VARIATIONS.items()), *bias_variations()]
    missing = {
        what
        for what, change, has in every
        if what not in BY_TENSORS.get(name, ())
        and not any(map(has, flats))
        and any(has(change(flat)) and expresses(FAMILY[name], change(flat)) for flat in flats)
    }
    assert not missing
    assert len(flats) > 1
