"""Strict YAML and JSON text <-> plain values, with the file and line of every key.

YAML here is the 1.2 core: ``1e-3`` is a number, ``on`` and ``yes`` are strings. Duplicate keys, aliases, tags and deep nesting
are refused, which leaves no way to write a small file that unfolds into a large one.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

from jax_transformer.config.errors import ConfigError

KeyPath = tuple[str | int, ...]

MAX_BYTES = 2**20
MAX_DEPTH = 64

_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_SCALARS = (
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    ("int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*)"), list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789.")),
)


@dataclass(frozen=True)
class Document:
    """Plain values and where each came from."""

    tree: Any
    origins: dict[KeyPath, str] = field(default_factory=dict)
    """Key path -> ``file:line`` or the override that set it; the empty path is the file."""

    def origin(self, path: KeyPath) -> str:
        """Where the value at ``path``, or the nearest one above it, was written."""
        return next((self.origins[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.origins), "config")


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's parser with this module's scalars."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


class _StrictDumper(yaml.SafeDumper):
    """PyYAML's writer with the same scalars, so that a string that looks like a number is quoted."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, _pattern, _first in _SCALARS:
    for _class in (_StrictLoader, _StrictDumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern.pattern})\Z"), _first)


def read_document(path: Path) -> Document:
    """Read a ``.json`` file as JSON and any other as YAML.

    Raises:
        ConfigError: the file cannot be read, or is no mapping in strict YAML or JSON.
    """
    label = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{label}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{label}: is larger than {MAX_BYTES} bytes: this is no config file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{label}:{line}: byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8") from error
    return parse_json(text, label) if path.suffix == ".json" else parse_yaml(text, label)


def parse_yaml(text: str, label: str) -> Document:
    """Parse a YAML mapping; errors name ``label:line``.

    Raises:
        ConfigError: the text is not strict YAML, or is not a mapping.
    """
    origins: dict[KeyPath, str] = {(): f"{label}:1"}
    try:
        tree = _compose(_StrictLoader(text), label, origins)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(
            f"{label}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem or error.context}"
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{label}:{line}: character U+{int(error.character):04X} is not allowed in YAML") from error
    return Document(_require_mapping(tree, label), origins)


def parse_json(text: str, label: str) -> Document:
    """Parse a JSON object; syntax errors name ``label:line``.

    Raises:
        ConfigError: the text is not JSON, repeats a key, or is not an object.
    """
    try:
        tree = json.loads(
            text,
            object_pairs_hook=lambda pairs: _unique(pairs, label),
            parse_constant=lambda name: _refuse(f"{label}: {name} is not a number that JSON or a config has"),
        )
    except json.JSONDecodeError as error:
        raise ConfigError(f"{label}:{error.lineno}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise ConfigError(f"{label}: is nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"{label}: not valid JSON: {error}") from error
    return Document(_require_mapping(tree, label), {(): label})


def parse_value(text: str, label: str) -> Any:
    """Parse one YAML value (number, string, list, mapping); ``label`` names it in errors.

    Raises:
        ConfigError: the text is not strict YAML.
    """
    try:
        return _compose(_StrictLoader(text), label, {})
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed"
        raise ConfigError(f"{label}: not valid YAML: {problem}") from error


def dump_yaml(tree: Any) -> str:
    """YAML text that ``parse_yaml`` reads back to an equal value."""
    return yaml.dump(tree, Dumper=_StrictDumper, sort_keys=False, allow_unicode=True, width=120)


def show_path(path: Sequence[str | int]) -> str:
    """``("stack", "pattern", 0, "ffn")`` -> ``stack.pattern[0].ffn``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "top level"


def _compose(loader: _StrictLoader, label: str, origins: dict[KeyPath, str]) -> Any:
    """Events -> values. Working on events, not on a composed graph, bounds depth before anything recursive runs."""
    try:
        loader.get_event()  # stream start
        if loader.check_event(yaml.StreamEndEvent):
            return None
        loader.get_event()  # document start
        value = _value(loader, (), label, origins)
        loader.get_event()  # document end
        if not loader.check_event(yaml.StreamEndEvent):
            raise _at(loader.get_event(), label, "a second document starts here; a config is one document")
        return value
    finally:
        loader.dispose()


def _value(loader: _StrictLoader, path: KeyPath, label: str, origins: dict[KeyPath, str]) -> Any:
    event = loader.get_event()
    origins.setdefault(path, f"{label}:{event.start_mark.line + 1}")
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _at(event, label, "anchors and aliases (&, *) are not allowed in a config; write the value out")
    if event.tag is not None and event.tag != "!":
        raise _at(event, label, f"tag {event.tag!r} is not allowed in a config")
    if len(path) >= MAX_DEPTH:
        raise _at(event, label, f"nested too deeply: at most {MAX_DEPTH} levels")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(loader, event, label)
    if isinstance(event, yaml.SequenceStartEvent):
        items: list[Any] = []
        while not loader.check_event(yaml.SequenceEndEvent):
            items.append(_value(loader, (*path, len(items)), label, origins))
        loader.get_event()
        return items
    mapping: dict[str, Any] = {}
    while not loader.check_event(yaml.MappingEndEvent):
        key = loader.get_event()
        if not isinstance(key, yaml.ScalarEvent):
            raise _at(key, label, "a key must be a plain name")
        if key.value in mapping:
            raise _at(key, label, f"{show_path((*path, key.value))}: key given twice; first at {origins[(*path, key.value)]}")
        origins[(*path, key.value)] = f"{label}:{key.start_mark.line + 1}"
        mapping[key.value] = _value(loader, (*path, key.value), label, origins)
    loader.get_event()
    return mapping


def _scalar(loader: _StrictLoader, event: yaml.ScalarEvent, label: str) -> Any:
    tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit).removeprefix("tag:yaml.org,2002:")
    match tag:
        case "null":
            return None
        case "bool":
            return event.value.lower() == "true"
        case "int":
            try:
                return int(event.value)
            except ValueError as error:
                raise _at(event, label, "this whole number is too long, or has '_' in odd places") from error
        case "float":
            return float(event.value.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return event.value


def _at(event: yaml.Event, label: str, problem: str) -> ConfigError:
    return ConfigError(f"{label}:{event.start_mark.line + 1}: {problem}")


def _refuse(message: str) -> Any:
    raise ConfigError(message)


def _unique(pairs: list[tuple[str, Any]], label: str) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ConfigError(f"{label}: key {next(key for key in keys if keys.count(key) > 1)!r} given twice in one object")
    return mapping


def _require_mapping(tree: Any, label: str) -> dict[str, Any]:
    if isinstance(tree, dict):
        return tree
    got = "an empty file" if tree is None else "a list" if isinstance(tree, list) else "a single value"
    raise ConfigError(f"{label}:1: got {got}, wanted a mapping of config fields at the top level")
