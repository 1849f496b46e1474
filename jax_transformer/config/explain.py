"""Pydantic's findings -> one error that names file, line, path, what was got, what was wanted and the likely fix."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from jax_transformer.config.base import Config
from jax_transformer.config.document import Document, KeyPath, show_path
from jax_transformer.config.errors import ConfigError
from jax_transformer.config.suggest import closest, did_you_mean
from jax_transformer.config.tree import annotation_at, classes, fields, kind_of, locate

_WANTED = {
    "bool_type": "true or false",
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "an integer",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "string_type": "a string",
    "tuple_type": "a list",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "too_short": "a list of at least {min_length}",
}


def explain(error: ValidationError, document: Document, root: Any) -> ConfigError:
    """Every finding on a line of its own; ``root`` is the config class (or union) that was checked."""
    findings = [(finding, *locate(root, finding["loc"])) for finding in error.errors(include_url=False)]
    meant: set[KeyPath] = set()
    lines: list[tuple[KeyPath, str]] = []
    for finding, path, owner in findings:
        if finding["type"] == "extra_forbidden" and owner is not None:
            near, text = _unknown_field(path, owner, document, root)
            meant.update((*path[:-1], name) for name in near[:1])
            lines.append((path, text))
    for finding, path, owner in findings:
        if finding["type"] == "extra_forbidden" and owner is not None:
            continue
        if finding["type"] == "missing" and path in meant:
            continue  # a misspelt key was this one
        if finding["type"] == "too_short" and any(other[: len(path)] == path for _, other, _ in findings if other != path):
            continue  # pydantic counts only the items that passed
        lines.append(_describe(finding, path, document, root))
    problems = [f"{document.origin(path)}: {show_path(path)}: {text}" for path, text in lines]
    head = f"{len(problems)} problems in the config:\n  " if len(problems) > 1 else ""
    return ConfigError(head + "\n  ".join(problems))


def _unknown_field(path: KeyPath, owner: type[Config], document: Document, root: Any) -> tuple[list[str], str]:
    """The names it may have been meant to be, and the message."""
    name, known = str(path[-1]), list(owner.model_fields)
    if path == ("model",):
        return [], "unknown field: this config is a model itself; leave out 'model.'"
    near = closest(name, known, taken=_value_at(document.tree, path[:-1]))
    if near:
        return near, f"unknown field{did_you_mean(near)}"
    elsewhere = [show_path(found) for found, _, field in fields(root) if field == name]
    if elsewhere:
        return [], f"unknown field{did_you_mean(elsewhere)}"
    return [], f"unknown field; wanted one of {', '.join(known)}"


def _describe(finding: Mapping[str, Any], path: KeyPath, document: Document, root: Any) -> tuple[KeyPath, str]:
    """The key path to blame and what is wrong with it."""
    annotation = annotation_at(root, path, document.tree)
    kinds = [kind for cls in classes(annotation) if (kind := kind_of(cls))]
    match finding["type"]:
        case "missing":
            return path, "missing field"
        case "value_error":
            return path, str(finding["ctx"]["error"])
        case "literal_error":
            return path, _wrong_choice(finding["input"], [str(value) for value in get_args(_literal(annotation))])
        case "union_tag_invalid":
            return (*path, "kind"), _wrong_choice(finding["ctx"]["tag"], kinds)
        case "union_tag_not_found":
            typo = next((key for key in finding["input"] if closest(key, ["kind"])), None)
            choices = ", ".join(kinds)
            if typo is not None:
                return (*path, typo), f"unknown field; did you mean 'kind'? It is one of {choices}"
            return path, f"missing field 'kind', one of {choices}"
    return path, f"got {_show(finding['input'])}{_wanted(finding, kinds)}"


def _wrong_choice(got: Any, allowed: list[str]) -> str:
    return f"got {_show(got)}, wanted one of {', '.join(allowed)}{did_you_mean(closest(str(got), allowed))}"


def _wanted(finding: Mapping[str, Any], kinds: list[str]) -> str:
    wanted = _WANTED.get(finding["type"])
    if wanted is None:
        return f": {finding['msg']}"
    hint = f", as in {{kind: {finding['input']}}}" if kinds and isinstance(finding["input"], str) else ""
    return f", wanted {wanted.format(**finding.get('ctx', {}))}{hint}"


def _literal(annotation: Any) -> Any:
    """The ``Literal`` inside ``Literal[...] | None``, or the annotation itself."""
    members = get_args(annotation)
    return next((member for member in members if get_args(member)), annotation)


def _value_at(tree: Any, path: KeyPath) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _show(value: Any) -> str:
    kinds = {
        bool: "a boolean",
        int: "an integer",
        float: "a decimal number",
        str: "a string",
        list: "a list",
        dict: "a mapping",
    }
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{short} ({kinds.get(type(value), type(value).__name__)})"
