"""Strict YAML text <-> plain values.

YAML here is the 1.2 core: ``1e-3`` is a number, ``on`` and ``yes`` are strings. Duplicate keys, aliases, tags and deep nesting
are refused, which leaves no way to write a small file that unfolds into a large one.
"""

import re
from typing import Any

import yaml

from jax_transformer.config.document import Document, KeyPath, parse_integer, require_mapping, show_path
from jax_transformer.config.errors import ConfigError

MAX_DEPTH = 64

_FLOAT = re.compile(
    r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_SCALARS = (
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    ("int", re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)"), list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789.")),
)


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's parser with this module's scalars."""


class _StrictDumper(yaml.SafeDumper):
    """PyYAML's writer with the same scalars, so that a string that looks like a number is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Escape what does not print: between single quotes, PyYAML loses the line breaks that only Unicode knows."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if data.isprintable() else '"')


_StrictDumper.add_representer(str, _StrictDumper.represent_str)

for _class in (_StrictLoader, _StrictDumper):
    _class.yaml_implicit_resolvers = {}  # without PyYAML's own, which belong to YAML 1.1
    for _name, _pattern, _first in _SCALARS:
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern.pattern})\Z"), _first)


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
    return Document(require_mapping(tree, label), origins)


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
    origins.setdefault(path, f"{label}:{_line(event)}")
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
        origins[(*path, key.value)] = f"{label}:{_line(key)}"
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
            return parse_integer(event.value, f"{label}:{_line(event)}")
        case "float":
            return float(event.value.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return event.value


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _at(event: yaml.Event, label: str, problem: str) -> ConfigError:
    return ConfigError(f"{label}:{_line(event)}: {problem}")
