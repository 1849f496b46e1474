"""Valid raw config trees, generated from the config classes, so that tests cover fields that do not exist yet."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jax_transformer.config import Run
from jax_transformer.config.base import Config
from jax_transformer.config.document import KeyPath
from jax_transformer.config.tree import annotation_of, classes, fields, item, kind_of
from parity_tests.config.complete import NUMBER, complete


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
    return complete(_fitted(tree, path))


def every_field() -> Iterator[tuple[KeyPath, type[Config], str]]:
    """Every field of every class below a run once, where it can stand, as (path, owning class, name)."""
    seen: set[tuple[type[Config], str]] = set()
    for path, owner, name in fields(Run):
        # Only the decoder of an encoder-decoder has a source to cross over to.
        possible = "cross_attention" not in path or path[1] == "decoder"
        if possible and (owner, name) not in seen:
            seen.add((owner, name))
            yield path, owner, name


def parent(tree: Any, path: KeyPath) -> Any:
    """The mapping that holds the last key of ``path``."""
    for key in path[:-1]:
        tree = tree[key]
    return tree


_CLASSES = [f"class {number}" for number in range(NUMBER)]
_PARTNERS = {
    "masked_lm": ("encoder", "mlm", None),
    "classification": ("encoder", "classifier", "labelled"),
    "span_corruption": ("encoder_decoder", None, None),
    "seq2seq": ("encoder_decoder", None, "pairs"),
}
"""Objective -> the kinds of model, head and source that it needs; the first choices of each suit the next token."""


def _fitted(tree: dict[str, Any], path: KeyPath) -> dict[str, Any]:
    """``tree`` with the objective, model and source that the one at ``path`` needs."""
    model, source, objective = tree["model"], tree["data"].get("source", {}), tree.get("objective") or {}
    classifies = "classification" if model.get("head", {}).get("kind") == "classifier" else None
    reads = {"labelled": "classification"}.get(source.get("kind"))
    kind = objective.get("kind") or classifies or reads
    if path[:2] == ("data", "target_length"):
        kind = "seq2seq"
    if kind not in _PARTNERS:
        return tree
    wanted, head, read = _PARTNERS[kind]
    if model["kind"] != wanted:
        model = sample(_of_kind(Run.model_fields["model"].annotation, wanted))
    if head and model.get("head", {}).get("kind") != head:
        model["head"] = sample(_of_kind(annotation_of(_of_kind(Run.model_fields["model"].annotation, wanted), "head"), head))
    if read and source.get("kind") != read:
        source = sample(_of_kind(annotation_of(classes(Run.model_fields["data"].annotation)[0], "source"), read))
    if read == "labelled":
        source["labels"] = _CLASSES
    return tree | {"model": model, "data": tree["data"] | ({"source": source} if read else {})}


def _of_kind(annotation: Any, kind: str) -> type[Config]:
    return next(cls for cls in classes(annotation) if kind_of(cls) == kind)


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
