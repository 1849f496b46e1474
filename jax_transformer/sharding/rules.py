"""Rules from a parameter's logical axes to mesh axes, and the shardings of a whole training state that follow."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jax_transformer.config.errors import ConfigError
from jax_transformer.nn.params import ParamSpec

RULES: dict[str, str | None] = {
    "embed": "fsdp",
    "vocab": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "ffn": "tensor",
    "experts": None,
    "head_dim": None,
    "norm": None,
    "scalar": None,
    "positions": None,
    "types": None,
    "buckets": None,
    "classes": None,
    "table": None,
    "hidden": None,
    "q_rank": None,
    "kv_rank": None,
    "channels": "tensor",
    "conv_width": None,
}
"""Data parallel, FSDP and tensor parallel at once: an axis of size 1 splits nothing."""

BATCH = PartitionSpec(("data", "fsdp"))
"""A batch: rows over both axes that do not split the model's computation."""


def partition_spec(name: str, spec: ParamSpec, mesh: Mesh, rules: Mapping[str, str | None] = RULES) -> PartitionSpec:
    """How parameter ``name`` is laid out; the leading dimension of stacked repeats is never split.

    Raises ConfigError, naming the parameter, for a logical axis without a rule, a dimension that its mesh axis does not
    divide, or two dimensions on one mesh axis.
    """
    used: dict[str, str] = {}
    entries: list[str | None] = [None] * spec.batch_dims
    for axis, size in zip(spec.axes, spec.shape[spec.batch_dims :], strict=True):
        if axis not in rules:
            raise ConfigError(f"{name}: logical axis {axis!r} has no sharding rule; the rules know {sorted(rules)}")
        target = rules[axis]
        devices = 1 if target is None else mesh.shape[target]
        if target is None or devices == 1:
            entries.append(None)
            continue
        if size % devices:
            raise ConfigError(
                f"{name}: dimension {axis!r} of size {size} cannot be split over mesh.{target}={devices}; "
                f"choose a mesh.{target} that divides it"
            )
        if target in used:
            raise ConfigError(f"{name}: dimensions {used[target]!r} and {axis!r} both map to mesh axis {target!r}")
        used[target] = axis
        entries.append(target)
    return PartitionSpec(*entries)


def state_shardings(state: Any, specs: Mapping[str, ParamSpec], mesh: Mesh, rules: Mapping[str, str | None] = RULES) -> Any:
    """The sharding of every leaf of an abstract training state.

    A leaf that sits under a parameter's name and has its shape (the parameter, its Adam moments) is laid out like the
    parameter; every other leaf (counters) is replicated.
    """
    layouts = {name: partition_spec(name, spec, mesh, rules) for name, spec in specs.items()}

    def sharding(path: tuple, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        name = str(getattr(path[-1], "key", ""))
        matches = name in specs and tuple(leaf.shape) == specs[name].shape
        return NamedSharding(mesh, layouts[name] if matches else PartitionSpec())

    return jax.tree_util.tree_map_with_path(sharding, state)
