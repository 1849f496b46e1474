"""A config before it is checked: plain values, and the file and line of every key."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jax_transformer.config.errors import ConfigError

KeyPath = tuple[str | int, ...]

MAX_INTEGER = 2**63


@dataclass(frozen=True)
class Document:
    """Plain values and where each came from."""

    tree: Any
    origins: dict[KeyPath, str] = field(default_factory=dict)
    """Key path -> ``file:line`` or the override that set it; the empty path is the file."""

    def origin(self, path: KeyPath) -> str:
        """Where the value at ``path``, or the nearest one above it, was written."""
        return next((self.origins[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.origins), "config")


def show_path(path: Sequence[str | int]) -> str:
    """``("stack", "pattern", 0, "ffn")`` -> ``stack.pattern[0].ffn``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "top level"


def require_mapping(tree: Any, label: str) -> dict[str, Any]:
    """``tree`` itself.

    Raises:
        ConfigError: it is no mapping, so no config.
    """
    if isinstance(tree, dict):
        return tree
    got = "an empty file" if tree is None else "a list" if isinstance(tree, list) else "a single value"
    raise ConfigError(f"{label}:1: got {got}, wanted a mapping of config fields at the top level")


def parse_integer(digits: str, label: str) -> int:
    """A whole number of at most 64 bits.

    Raises:
        ConfigError: it is larger.
    """
    number = int(digits) if len(digits) <= 40 else MAX_INTEGER
    if abs(number) >= MAX_INTEGER:
        raise ConfigError(f"{label}: the whole number {digits[:40]}... needs more than 64 bits")
    return number
