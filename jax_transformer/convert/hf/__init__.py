"""Hugging Face checkpoints: the closed table of families, and folders in their layout <-> hub tensors. Framework-free."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jax_transformer.config import Model
from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.config.suggest import closest, did_you_mean, nearest
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.files import companions, is_hf, read_values
from jax_transformer.convert.hf.folder import HubSource, HubView, Shapes, open_folder, open_tensors, write_folder
from jax_transformer.convert.hf.table import FAMILY

__all__ = [
    "FAMILY",
    "HubSource",
    "HubView",
    "Shapes",
    "as_ours",
    "as_theirs",
    "choose",
    "companions",
    "family_named",
    "family_of",
    "is_hf",
    "open_hf",
    "open_tensors",
    "read_values",
    "write_folder",
]


def family_named(name: str, values: Mapping[str, Any] | None = None) -> Family:
    """The family of a ``model_type``; ``values`` are the config.json that has it.

    Raises ConfigError naming the closest one that there is, or the one of a model inside this one.
    """
    if name in FAMILY:
        return FAMILY[name]
    inner = {key: part.get("model_type") for key, part in (values or {}).items() if isinstance(part, Mapping)}
    inside = [f"its {key} is a {kind!r}, which is: save that model alone" for key, kind in inner.items() if kind in FAMILY]
    text = [f"{name}_text"] if f"{name}_text" in FAMILY else []
    near = did_you_mean(text or closest(name, FAMILY))
    hint = f"; {inside[0]}" if inside else near or f"; no name is like it, the closest is {nearest(name, FAMILY)!r}"
    raise ConfigError(f"model_type {name!r} is not supported{hint}; supported: {', '.join(FAMILY)}")


def family_of(folder: str | Path) -> Family:
    """The family of a folder in Hugging Face layout. Raises WeightsError or ConfigError where it has none that we know."""
    values = read_values(folder)
    if not isinstance(values.get("model_type"), str):
        raise WeightsError(f"{folder}: its config.json has no model_type; wanted a checkpoint of Hugging Face")
    return family_named(values["model_type"], values)


def open_hf(
    folder: str | Path, shapes_of: Callable[[Model], Shapes], compute: str | None = None, verify: bool = True
) -> tuple[Model, HubView]:
    """Config and hub tensors of a folder in Hugging Face layout; ``shapes_of`` gives the hub tensors of a config.

    The model computes in the dtype ``compute``; None: in that of the weights. ``verify`` as in ``hub.open_weights``.
    """
    return open_folder(folder, family_of(folder), shapes_of, compute, verify)


def choose(config: Model, name: str | None = None) -> Family:
    """The family called ``name``, or the first one that expresses ``config`` exactly.

    Raises ConfigError with what stands in the way: of the named family, or of the one that comes closest.
    """
    if name is not None:
        family_named(name).write_config(config)
        return FAMILY[name]
    problems: list[str] = []
    for family in FAMILY.values():
        try:
            family.write_config(config)
        except ConfigError as error:
            problems.append(str(error))
        else:
            return family
    raise ConfigError("no family of Hugging Face that we know has this model; the closest: " + min(problems, key=_count))


def as_theirs(config: Model, tensors: Mapping[str, np.ndarray], family: str | None = None) -> dict[str, np.ndarray]:
    """Hub tensors of a model of ``config`` under the names and in the layout of a family (default: the first that fits).

    Bytes are moved and nothing is computed: gradients and moments go the same way as weights.
    """
    rows = choose(config, family).bind(config, {name: array.shape for name, array in tensors.items()})
    return {name: array for row in rows for name, array in zip(row.theirs, row.from_hub(tensors.__getitem__), strict=True)}


def as_ours(
    config: Model, tensors: Mapping[str, np.ndarray], shapes: Shapes, family: str | None = None
) -> dict[str, np.ndarray]:
    """The inverse of ``as_theirs``, given the shapes of the hub tensors."""
    rows = choose(config, family).bind(config, shapes, tensors)
    return {name: array for row in rows for name, array in zip(row.ours, row.to_hub(tensors.__getitem__), strict=True)}


def _count(problem: str) -> tuple[bool, int]:
    return "\n" not in problem, problem.count("\n")
