"""Changes to a document before it is checked: dotted overrides from the command line, and one document laid over another."""

import re
from collections.abc import Sequence
from typing import Any

from jax_transformer.config.base import Config
from jax_transformer.config.document import Document, KeyPath, show_path
from jax_transformer.config.errors import ConfigError
from jax_transformer.config.strict_yaml import parse_value
from jax_transformer.config.tree import annotation_at, classes, kind_of

_SEGMENT = re.compile(r"\.?([A-Za-z_][\w-]*)|\.?([0-9]+)(?=[.\[]|$)|\[([0-9]+)\]")


def apply_overrides(document: Document, overrides: Sequence[str], root: Any) -> Document:
    """Set ``path=value`` for each override, in order; ``root`` is the config class (or union) of the document.

    A path is ``stack.pattern[0].attention.window`` or ``stack.pattern.0.attention.window``; a value is YAML. A mapping or list
    replaces what was there. A node that the document leaves out starts from its default.

    Raises:
        ConfigError: no ``=``, a malformed path or value, or a path through something that is no mapping or list.
    """
    tree, origins = document.tree, dict(document.origins)
    for text in overrides:
        label = f"override {text!r}"
        name, equals, value = text.partition("=")
        if not equals or not value.strip():
            raise ConfigError(f"{label}: wanted path=value, as in train.learning_rate=1e-3 (null for none)")
        path = _parse_path(name.strip(), label)
        made = [path[:end] for end in range(1, len(path)) if not _present(tree, path[:end])]
        tree = _replace(tree, path, parse_value(value, label), (root, (), label))
        origins = {key: origin for key, origin in origins.items() if key[: len(path)] != path}
        origins |= dict.fromkeys([*made, path], label)
    return Document(tree, origins)


def merge(base: Document, top: Document) -> Document:
    """Lay ``top`` over ``base``: mappings merge key by key, unless ``kind`` differs; anything else is replaced."""
    return Document(_merge(base.tree, top.tree), base.origins | top.origins)


def _parse_path(name: str, label: str) -> KeyPath:
    path: list[str | int] = []
    end = 0
    while end < len(name):
        match = _SEGMENT.match(name, end)
        if match is None or (end == 0 and match[0].startswith((".", "["))):
            raise ConfigError(
                f"{label}: {name!r} is not a path; wanted names and indices, as in stack.pattern[0].ffn.hidden_dim"
            )
        path.append(match[1] if match[1] is not None else int(match[2] or match[3]))
        end = match.end()
    if not path:
        raise ConfigError(f"{label}: the path before '=' is empty")
    return tuple(path)


def _present(tree: Any, path: KeyPath) -> bool:
    for key in path:
        if isinstance(tree, list) and isinstance(key, int):
            tree = tree[key] if key < len(tree) else None
        else:
            tree = tree.get(key) if isinstance(tree, dict) else None
    return tree is not None


def _replace(node: Any, path: KeyPath, value: Any, place: tuple[Any, KeyPath, str]) -> Any:
    """A copy of ``node`` with the value at ``path`` replaced; ``place`` is (root class, path so far, label)."""
    if not path:
        return value
    root, above, label = place
    key, rest = path[0], path[1:]
    inner = (root, (*above, key), label)
    if isinstance(node, list):
        if not isinstance(key, int) or key >= len(node):
            raise ConfigError(f"{label}: {show_path(above)} is a list of {len(node)}; wanted an index below that, got {key!r}")
        return [*node[:key], _replace(node[key], rest, value, inner), *node[key + 1 :]]
    if not isinstance(node, dict) or isinstance(key, int):
        what = "a mapping, which has no index" if isinstance(node, dict) else f"{node!r}, which has nothing below it"
        raise ConfigError(f"{label}: {show_path(above)} is {what} {key!r}")
    child = node.get(key)
    if child is None and rest:
        child = _default(root, (*above, key))
    return node | {key: _replace(child, rest, value, inner)}


def _default(root: Any, path: KeyPath) -> dict[str, Any]:
    """What a left-out mapping at ``path`` starts from: its default's kind and whatever differs from that kind's defaults."""
    owners = classes(annotation_at(root, path[:-1], None))
    default = next((cls.model_fields[path[-1]].default for cls in owners if path[-1] in cls.model_fields), None)
    if not isinstance(default, Config):
        return {}
    kind = kind_of(type(default))
    return ({"kind": kind} if kind else {}) | default.model_dump(mode="json", exclude_defaults=True)


def _merge(base: Any, top: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(top, dict):
        return top
    if "kind" in top and "kind" in base and top["kind"] != base["kind"]:
        return top
    return base | {key: _merge(base[key], value) if key in base else value for key, value in top.items()}
