"""Valid raw config trees, generated from the config classes, so that tests cover fields that do not exist yet."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jax_transformer.config import Run
from jax_transformer.config.base import Config
from jax_transformer.config.document import KeyPath
from jax_transformer.config.tree import annotation_of, classes, fields, item, kind_of

NUMBER = 512
"""A value that every count may have: even, and large enough for the byte vocabulary."""


def sample(annotation: Any) -> Any:
    """A valid raw value: required fields only, the first of every choice."""
    if found := classes(annotation):
        kind = kind_of(found[0])
        required = {name for name, field in found[0].model_fields.items() if field.is_required()}
        return ({"kind": kind} if kind else {}) | {name: sample(annotation_of(found[0], name)) for name in sorted(required)}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return sample(arguments[0])
    if origin is Literal:
        return arguments[0]
    if origin in (Union, types.UnionType):
        return sample(arguments[0])
    if origin is tuple:
        return [sample(item(annotation))]
    return {int: NUMBER, float: 0.5, bool: True, str: "x"}[annotation]


def with_field(path: KeyPath, owner: type[Config]) -> dict[str, Any]:
    """A valid raw run that spells out the field at ``path``, whose mapping is an ``owner``."""
    tree = _containing(Run, path, owner)
    assert tree is not None
    return tree


def every_field() -> Iterator[tuple[KeyPath, type[Config], str]]:
    """Every field of a run, as (path, owning class, name)."""
    return fields(Run)


def parent(tree: Any, path: KeyPath) -> Any:
    """The mapping that holds the last key of ``path``."""
    for key in path[:-1]:
        tree = tree[key]
    return tree


def _containing(annotation: Any, path: KeyPath, owner: type[Config]) -> Any:
    if isinstance(path[0], int):
        inner = _containing(item(annotation), path[1:], owner)
        return None if inner is None else [inner]
    for cls in classes(annotation):
        tree, name = sample(cls), path[0]
        if name not in cls.model_fields:
            continue
        if len(path) == 1 and cls is owner:
            default = cls.model_fields[name].default
            return {name: default if type(default) in (bool, int, float, str) else sample(annotation_of(cls, name))} | tree
        if len(path) > 1 and (inner := _containing(annotation_of(cls, name), path[1:], owner)) is not None:
            return tree | {name: inner}
    return None
