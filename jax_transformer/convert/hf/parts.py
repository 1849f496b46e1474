"""What a family's config table is made of: each part reads some keys of a Hugging Face config and writes them back.

Reading gives values by config path (``hf/flat.py``), writing gives keys. No part checks what it writes: the family reads its
own output again and compares every value with the model's (``hf/family.py``).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf.flat import MAX_LAYERS, Flat


class Missing:
    """No value: the key has to be in the config."""


class Keys:
    """The keys of a config.json; it remembers which were asked for."""

    def __init__(self, values: Mapping[str, Any], label: str):
        self.values, self.label = values, label
        self.asked: set[str] = set()

    def get(self, names: str | tuple[str, ...], default: Any = Missing) -> Any:
        """The value under the first of ``names`` that is there and not null, else ``default`` (or what it makes of the keys).

        Raises ConfigError where spellings contradict one another, or there is neither value nor default.
        """
        names = (names,) if isinstance(names, str) else names
        self.asked.update(names)
        found = {name: self.values[name] for name in names if self.values.get(name) is not None}
        if len({repr(value) for value in found.values()}) > 1:
            raise ConfigError(f"{self.label}: {found} are spellings of one value and differ: keep one of them")
        if found:
            return next(iter(found.values()))
        if default is Missing:
            raise ConfigError(f"{self.label}: {' or '.join(names)} is missing")
        return default(self) if callable(default) else default

    def layers(self, names: str | tuple[str, ...]) -> int:
        """A number of layers. Raises ConfigError where it is none of a real model: a line of config is written for each."""
        count = self.get(names)
        if type(count) is not int or not 0 < count <= MAX_LAYERS:
            raise ConfigError(f"{self.label}: {names}={count!r}: wanted a number of layers from 1 to {MAX_LAYERS}")
        return count

    def is_null(self, name: str) -> bool:
        """Whether the key is there and null."""
        self.asked.add(name)
        return name in self.values and self.values[name] is None


class Part(Protocol):
    """Some keys of a config and the paths that they stand for."""

    def read(self, hf: Keys) -> Flat:
        """Values by path; ``layer.`` for all layers."""
        ...

    def write(self, flat: Flat) -> dict[str, Any]:
        """Keys, from the values of a model."""
        ...


@dataclass(frozen=True)
class Codec:
    """How a value is spelt: ``read`` from theirs to ours, ``write`` back."""

    read: Callable[[Any], Any]
    write: Callable[[Any], Any]


@dataclass(frozen=True)
class Field:
    """One value, at one path or several, under ``keys`` (all are read, the first is written)."""

    paths: str | tuple[str, ...]
    keys: str | tuple[str, ...]
    default: Any = Missing
    """What the family's own config class has where the key is missing; a function of the keys, or a value."""
    codec: Codec | None = None
    null: Any = Missing
    """What null means, where that is not the default."""

    def read(self, hf: Keys) -> Flat:
        """The value at every path."""
        meant = self.default if self.null is Missing or not any(map(hf.is_null, _all(self.keys))) else self.null
        value = hf.get(self.keys, meant)
        if self.codec is not None and value is not None:
            try:
                value = self.codec.read(value)
            except (KeyError, ValueError, TypeError, ArithmeticError) as error:
                raise ConfigError(f"{hf.label}: {self.keys}={value!r} is nothing that our config can express") from error
        return dict.fromkeys(_all(self.paths), value)

    def write(self, flat: Flat) -> dict[str, Any]:
        """The value under the first key; nothing where there is no spelling for it."""
        value = at(flat, _all(self.paths)[0])
        if self.codec is not None and value is not None:
            try:
                value = self.codec.write(value)
            except KeyError:
                return {}
        return {_all(self.keys)[0]: value}


@dataclass(frozen=True)
class Fixed:
    """What every model of the family has."""

    values: Mapping[str, Any]

    def read(self, hf: Keys) -> Flat:
        """The values."""
        return dict(self.values)

    def write(self, flat: Flat) -> dict[str, Any]:
        """No key says it."""
        return {}


@dataclass(frozen=True)
class Choice:
    """One key that stands for several values at once: of what it says, to those values."""

    key: str | tuple[str, ...]
    default: Any
    options: Mapping[Any, Mapping[str, Any]]

    def read(self, hf: Keys) -> Flat:
        """The values of the option."""
        value = hf.get(self.key, self.default)
        if value not in self.options:
            raise ConfigError(f"{hf.label}: {self.key}={value!r}: wanted one of {list(self.options)}")
        return dict(self.options[value])

    def write(self, flat: Flat) -> dict[str, Any]:
        """The option whose values the model has."""
        for value, paths in self.options.items():
            if all(at(flat, path) == wanted for path, wanted in paths.items()):
                return {_all(self.key)[0]: value}
        return {}


@dataclass(frozen=True)
class Only:
    """A key of which our config can express some values only; the first is the default of the family."""

    key: str
    values: tuple[Any, ...]
    reason: str

    def read(self, hf: Keys) -> Flat:
        """Nothing. Raises ConfigError for any other value."""
        value = hf.get(self.key, self.values[0])
        if value not in self.values:
            raise ConfigError(f"{hf.label}: {self.key}={value!r} cannot be expressed: {self.reason}")
        return {}

    def write(self, flat: Flat) -> dict[str, Any]:
        """Nothing: the default says it."""
        return {}


@dataclass(frozen=True)
class Equal:
    """Two keys that our config cannot express where they differ."""

    key: str
    other: str
    reason: str
    path: str = "d_model"

    def read(self, hf: Keys) -> Flat:
        """Nothing. Raises ConfigError where they differ."""
        wanted = hf.get(self.other)
        if (value := hf.get(self.key, wanted)) != wanted:
            raise ConfigError(f"{hf.label}: {self.key}={value} is not {self.other}={wanted}: {self.reason}")
        return {}

    def write(self, flat: Flat) -> dict[str, Any]:
        """What both are."""
        return {self.key: flat[self.path]}


def at(flat: Flat, path: str) -> Any:
    """The value at ``path``; of ``layer.`` that of layer 0."""
    return flat.get(path.replace("layer.", "layers.0.", 1) if "layer." in path else path)


def as_first(flat: Flat, layer: int) -> Flat:
    """The values with those of ``layer`` in the place of layer 0's, where parts look."""
    prefix = f"layers.{layer}."
    own = {f"layers.0.{path.removeprefix(prefix)}": value for path, value in flat.items() if path.startswith(prefix)}
    return {path: value for path, value in flat.items() if not path.startswith("layers.0.")} | own


def switch(key: str | tuple[str, ...], default: bool, on: Mapping[str, Any], off: Mapping[str, Any] | None = None) -> Choice:
    """A Choice by true and false; without ``off``, the paths of ``on`` are then absent."""
    return Choice(key, default, {True: on, False: dict.fromkeys(on, None) if off is None else off})


def preimage(function: Callable[[float], float], value: float, guess: float) -> float:
    """The x that ``function`` takes to exactly ``value``, near ``guess``; the shortest decimal that does, or a whole number."""
    neighbours = [math.nextafter(guess, direction) for direction in (-math.inf, math.inf)]
    for candidate in (*(round(guess, digits) for digits in range(16)), guess, *neighbours):
        if candidate > 0 and function(candidate) == value:
            return int(candidate) if candidate.is_integer() else candidate
    return guess


def _all(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu_erf",
    "gelu_python": "gelu_erf",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "quick_gelu": "quick_gelu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
}
_SPELT = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}

ACTIVATION = Codec(_ACTIVATIONS.__getitem__, _SPELT.__getitem__)
"""``gelu`` is the erf form; ``gelu_new`` and ``gelu_pytorch_tanh`` are one function."""
GPT_ACTIVATION = Codec(ACTIVATION.read, ({**_SPELT, "gelu_tanh": "gelu_new"}).__getitem__)
"""The same in the families that say ``gelu_new``."""
INVERSE_ROOT = Codec(lambda x: x**-0.5, lambda y: preimage(lambda x: x**-0.5, y, y**-2))
"""Gemma's ``query_pre_attn_scalar``."""
RECIPROCAL = Codec(lambda x: 1.0 / x, lambda y: preimage(lambda x: 1.0 / x, y, 1.0 / y))
"""Granite divides the logits."""
CAP = Codec(lambda x: x or None, lambda y: y)
"""0 means no cap, as null does."""
