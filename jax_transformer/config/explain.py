"""Pydantic's findings -> one error that names file, line, path, what was got, what was wanted and the likely fix."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import ValidationError

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
    findings = error.errors(include_url=False)
    places = [locate(root, finding["loc"]) for finding in findings]
    suggested: set[KeyPath] = set()
    lines: list[tuple[KeyPath, str]] = []
    for finding, (path, owner) in zip(findings, places, strict=True):
        if finding["type"] == "extra_forbidden" and owner is not None:
            near, text = _unknown_field(path, owner.model_fields, document, root)
            suggested.update((*path[:-1], name) for name in near[:1])
            lines.append((path, text))
    for finding, (path, owner) in zip(findings, places, strict=True):
        if finding["type"] == "extra_forbidden" and owner is not None:
            continue
        if finding["type"] == "missing" and path in suggested:
            continue  # the misspelt key is this one
        if finding["type"] == "too_short" and any(other[: len(path)] == path for other, _ in places if other != path):
            continue  # pydantic counts only the items that passed
        if finding["type"] == "union_tag_not_found":
            path, text = _missing_kind(path, document, root)
            lines.append((path, text))
        else:
            lines.append((path, _describe(finding, path, document, root)))
    problems = [f"{document.origin(path)}: {show_path(path)}: {text}" for path, text in lines]
    head = f"{len(problems)} problems in the config:\n  " if len(problems) > 1 else ""
    return ConfigError(head + "\n  ".join(problems))


def _unknown_field(path: KeyPath, known: Iterable[str], document: Document, root: Any) -> tuple[list[str], str]:
    name, known = str(path[-1]), list(known)
    if path == ("model",):
        return [], "unknown field: this config is a model itself; leave out 'model.'"
    near = closest(name, known, taken=_value_at(document.tree, path[:-1]))
    if near:
        return near, f"unknown field{did_you_mean(near)}"
    elsewhere = [show_path(found) for found, _, field in fields(root) if field == name]
    if elsewhere:
        return [], f"unknown field{did_you_mean(elsewhere)}"
    return [], f"unknown field; wanted one of {', '.join(known)}"


def _missing_kind(path: KeyPath, document: Document, root: Any) -> tuple[KeyPath, str]:
    value = _value_at(document.tree, path)
    kinds = ", ".join(str(kind_of(cls)) for cls in classes(annotation_at(root, path, document.tree)))
    typos = [key for key in value if closest(key, ["kind"])] if isinstance(value, dict) else []
    if typos:
        return (*path, typos[0]), f"unknown field; did you mean 'kind'? It is one of {kinds}"
    return path, f"missing field 'kind', one of {kinds}"


def _describe(finding: Mapping[str, Any], path: KeyPath, document: Document, root: Any) -> str:
    kind, context, got = finding["type"], finding.get("ctx", {}), _show(finding["input"])
    if kind == "missing":
        return "missing field"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        allowed = [str(value) for value in get_args(_literal(annotation_at(root, path, document.tree)))]
        near = closest(str(finding["input"]), allowed)
        return f"got {got}, wanted one of {', '.join(allowed) or context['expected']}{did_you_mean(near)}"
    if kind == "union_tag_invalid":
        allowed = [str(kind_of(cls)) for cls in classes(annotation_at(root, path, document.tree))]
        return (
            f"got kind {context['tag']!r}, wanted one of {', '.join(allowed)}{did_you_mean(closest(context['tag'], allowed))}"
        )
    if kind in ("model_type", "model_attributes_type") and isinstance(finding["input"], str):
        return f"got {got}, wanted a mapping, as in {{kind: {finding['input']}}}"
    if kind in _WANTED:
        return f"got {got}, wanted {_WANTED[kind].format(**context)}"
    return f"got {got}: {finding['msg']}"


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
