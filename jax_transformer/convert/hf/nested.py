"""Families whose config.json holds one document for each half of an encoder-decoder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf.family import read_parts, refuse_unknown, write_parts
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Keys, Part

_TOWER = {"embedding", "stack", "final_norm", "layer", "layers"}
"""What paths within a half begin with; other paths are the model's."""


@dataclass(frozen=True)
class Half:
    """The document under ``key``, ``encoder`` or ``decoder``. Its parts see it as a config of its own, and its paths too."""

    key: str
    model_type: str
    parts: tuple[Part, ...]
    defaults: Mapping[str, Any]
    """What the half's own config class has where parts know no default: files may leave such values out."""
    harmless: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Paths of the model that this half has under names of their own."""

    def read(self, hf: Keys) -> Flat:
        """The half's values. Raises ConfigError for keys in it that may change what is computed and that are not known."""
        document = hf.get(self.key)
        if not isinstance(document, Mapping):
            raise ConfigError(f"{hf.label}: {self.key}={document!r}: wanted the config of the {self.key}, an object")
        inner = Keys({**self.defaults, **document}, f"{hf.label}: {self.key}")
        flat = read_parts(self.parts, inner)
        refuse_unknown(inner, self.harmless, self.model_type, f"{self.key}.")
        return {self._outside(path): value for path, value in flat.items()}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The document."""
        own = {path.removeprefix(f"{self.key}."): value for path, value in flat.items()}
        own |= {path: flat[outside] for path, outside in self.renamed.items()}
        return {self.key: {"model_type": self.model_type} | write_parts(self.parts, own)}

    def _outside(self, path: str) -> str:
        return f"{self.key}.{path}" if path.split(".")[0] in _TOWER else self.renamed.get(path, path)


@dataclass(frozen=True)
class Halves:
    """Both documents, which agree in what our config has once."""

    encoder: Half
    decoder: Half

    def read(self, hf: Keys) -> Flat:
        """The values of both. Raises ConfigError where they differ in one of the model's."""
        one, other = self.encoder.read(hf), self.decoder.read(hf)
        if different := {path: (one[path], other[path]) for path in one.keys() & other.keys() if one[path] != other[path]}:
            raise ConfigError(
                f"{hf.label}: encoder and decoder differ in {different}: a model of ours has one value for both halves"
            )
        return one | other

    def write(self, flat: Flat) -> dict[str, Any]:
        """Both documents."""
        return self.encoder.write(flat) | self.decoder.write(flat)
