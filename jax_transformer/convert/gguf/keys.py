"""The keys that a file has for its architecture: asked for by name, and none left over."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax_transformer.config.errors import ConfigError

REQUIRED: Any = object()
"""In the place of a default: there is none."""


@dataclass(frozen=True)
class Key:
    """One key of a file and the key of Hugging Face's config that it is, with the same value."""

    own: str
    theirs: str
    default: Any = REQUIRED
    """Of a file without it; None leaves it to the family."""


SIZES: Mapping[str, str] = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
}
"""Counts and widths that every file has."""

RMS = Key("attention.layer_norm_rms_epsilon", "rms_norm_eps")
NORM = Key("attention.layer_norm_epsilon", "norm_epsilon")
WINDOW = Key("attention.sliding_window", "sliding_window")
CAPS = (
    Key("attn_logit_softcapping", "attn_logit_softcapping", 50.0),
    Key("final_logit_softcapping", "final_logit_softcapping", 30.0),
)
"""llama.cpp takes these where a file has none, so a file cannot say that there is no cap."""
FFN = Key("feed_forward_length", "intermediate_size")
USED = Key("expert_used_count", "num_experts_per_tok")


class Keys:
    """The keys of a file's architecture, and which of them were asked for."""

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        self._path = path
        self._prefix = f"{metadata['general.architecture']}."
        self._values = {
            key.removeprefix(self._prefix): value for key, value in metadata.items() if key.startswith(self._prefix)
        }
        self._asked: set[str] = set()

    def peek(self, key: str) -> Any:
        """A value, or None."""
        return self._values.get(key)

    def get(self, key: str, default: Any = REQUIRED) -> Any:
        """A value. Raises ConfigError where it is missing and has no default."""
        self._asked.add(key)
        if key not in self._values and default is REQUIRED:
            raise ConfigError(f"{self._path}: key {self._prefix + key!r} is missing")
        return self._values.get(key, default)

    def size(self, key: str, default: Any = REQUIRED) -> int:
        """A count or width, the same for all layers. Raises ConfigError where it is none."""
        value = self.get(key, default)
        if type(value) is not int or value < 1:
            raise ConfigError(f"{self._path}: {self._prefix}{key} is {value!r}; wanted one whole number above 0")
        return value

    def expect(self, key: str, wanted: tuple[Any, ...], meaning: str) -> None:
        """Raises ConfigError where there is a value and it is not one of those ``wanted``."""
        if (value := self.get(key, wanted[0])) not in wanted:
            raise ConfigError(f"{self._path}: {self._prefix}{key} is {value!r}; this family is read with {meaning}")

    def finish(self) -> None:
        """Raises ConfigError where keys are left that nobody asked for."""
        if left := {self._prefix + key: value for key, value in self._values.items() if key not in self._asked}:
            raise ConfigError(f"{self._path}: {left}: these keys may change what the model computes and are not known")
