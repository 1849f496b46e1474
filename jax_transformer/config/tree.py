"""Walks the config classes: which class owns a key path, and what its fields may hold."""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from jax_transformer.config.base import Config
from jax_transformer.config.document import KeyPath


def classes(annotation: Any) -> tuple[type[Config], ...]:
    """Every config class that a value of this annotation may be: ``Rope | NoPosition`` -> both."""
    if get_origin(annotation) is Annotated:
        return classes(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(found for member in get_args(annotation) for found in classes(member))
    return (annotation,) if isinstance(annotation, type) and issubclass(annotation, Config) else ()


def item(annotation: Any) -> Any:
    """The annotation of a tuple's items, or None where it is no tuple."""
    if get_origin(annotation) is Annotated:
        return item(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return next((found for member in get_args(annotation) if (found := item(member)) is not None), None)
    return get_args(annotation)[0] if get_origin(annotation) is tuple else None


def kind_of(cls: type[Config]) -> str | None:
    """The value of the class's ``kind`` tag."""
    return cls.model_fields["kind"].default if "kind" in cls.model_fields else None


def annotation_of(cls: type[Config], name: str) -> Any:
    """What field ``name`` may hold; pydantic keeps the discriminator and bounds elsewhere."""
    return cls.model_fields[name].annotation if name in cls.model_fields else None


def locate(root: Any, location: KeyPath) -> tuple[KeyPath, type[Config] | None]:
    """A pydantic error location -> the key path without union tags, and the class that owns its last key.

    >>> locate(Run, ("model", "stack", "pattern", 0, "norm", "rms_norm", "epss"))
    (("model", "stack", "pattern", 0, "norm", "epss"), RMSNorm)
    """
    path: list[str | int] = []
    annotation, owner = root, None
    for part in location:
        here = classes(annotation)
        if isinstance(part, int):
            annotation, owner = item(annotation), None
        elif len(here) > 1:  # the part is the tag of one of these classes, not a key
            annotation = next((cls for cls in here if part in (kind_of(cls), cls.__name__)), None)
            continue
        else:
            owner = here[0] if here else None
            annotation = annotation_of(owner, part) if owner else None
        path.append(part)
    return tuple(path), owner


def annotation_at(root: Any, path: KeyPath, tree: Any) -> Any:
    """The annotation of the value at a key path, choosing between tagged classes by ``tree``'s ``kind`` keys; or None."""
    annotation = root
    for part in path:
        if isinstance(part, int):
            annotation = item(annotation)
            tree = tree[part] if isinstance(tree, list) and part < len(tree) else None
            continue
        here = classes(annotation)
        if len(here) > 1 and isinstance(tree, dict):
            here = tuple(cls for cls in here if kind_of(cls) == tree.get("kind"))
        annotation = annotation_of(here[0], part) if len(here) == 1 else None
        tree = tree.get(part) if isinstance(tree, dict) else None
    return annotation


def fields(root: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, type[Config], str]]:
    """Every field of the tree below ``root``, as (path, owning class, name); list items have index 0."""
    for cls in classes(root):
        for name in cls.model_fields:
            yield (*path, name), cls, name
            annotation = annotation_of(cls, name)
            inner = item(annotation)
            yield from fields(annotation if inner is None else inner, (*path, name) if inner is None else (*path, name, 0))


def nodes(config: Config) -> Iterator[Config]:
    """``config`` and every config inside it."""
    yield config
    for name in type(config).model_fields:
        value = getattr(config, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Config):
                yield from nodes(inner)
