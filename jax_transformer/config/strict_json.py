"""Strict JSON text -> plain values: duplicate keys and numbers that JSON does not have are refused."""

import json
from typing import Any

from jax_transformer.config.document import Document, parse_integer, require_mapping
from jax_transformer.config.errors import ConfigError


def parse_json(text: str, label: str) -> Document:
    """Parse a JSON object; syntax errors name ``label:line``.

    Raises:
        ConfigError: the text is not JSON, repeats a key, or is not an object.
    """
    try:
        tree = json.loads(
            text,
            object_pairs_hook=lambda pairs: _unique(pairs, label),
            parse_int=lambda digits: parse_integer(digits, label),
            parse_constant=lambda name: _refuse(f"{label}: {name} is not a number that JSON or a config has"),
        )
    except json.JSONDecodeError as error:
        raise ConfigError(f"{label}:{error.lineno}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise ConfigError(f"{label}: is nested too deeply") from error
    return Document(require_mapping(tree, label), {(): label})


def _refuse(message: str) -> Any:
    raise ConfigError(message)


def _unique(pairs: list[tuple[str, Any]], label: str) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ConfigError(f"{label}: key {next(key for key in keys if keys.count(key) > 1)!r} given twice in one object")
    return mapping
