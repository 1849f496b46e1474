"""A state as a flat dict {name: array}: what is written to disk, so that the format knows nothing of NNX or optax classes."""

from collections import Counter
from typing import Any

import jax
from jax.tree_util import keystr, tree_flatten_with_path, tree_structure, tree_unflatten

from jax_transformer.config.errors import CheckpointError

PyTree = Any
_SHOWN = 20
"""Mismatches listed in an error: enough to see the pattern, few enough to read."""


def flatten(tree: PyTree) -> dict[str, Any]:
    """{"params/embed.embedding": array, "opt_state/0/mu/embed.embedding": array, ...} in the tree's order."""
    leaves, _ = tree_flatten_with_path(tree)
    names = [keystr(path, simple=True, separator="/") for path, _ in leaves]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"two leaves of the state share the name {twice[0]!r}")
    return dict(zip(names, (leaf for _, leaf in leaves), strict=True))


def unflatten(like: PyTree, arrays: dict[str, Any]) -> PyTree:
    """The inverse of ``flatten``, in the structure of ``like``."""
    return tree_unflatten(tree_structure(like), [arrays[name] for name in flatten(like)])


def describe(arrays: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{name: {"shape": [...], "dtype": "bfloat16"}}: JSON that a later restore is compared with."""
    return {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()}


def check_match(where: str, saved: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> None:
    """Raises CheckpointError listing every name, shape or dtype in which two descriptions differ.

    orbax itself would cast a different dtype silently.
    """
    lines = []
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            lines.append(f"  {name}: the checkpoint has {_show(saved.get(name))}, this run wants {_show(wanted.get(name))}")
    if not lines:
        return
    rest = [f"  ... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    raise CheckpointError(
        "\n".join(
            [
                f"{where} does not fit this run: {len(lines)} of {len(wanted)} arrays differ.",
                *lines[:_SHOWN],
                *rest,
                "Use the config that the checkpoint was written with, or start in another folder.",
            ]
        )
    )


def _show(entry: dict[str, Any] | None) -> str:
    return "nothing" if entry is None else f"{entry['dtype']}{entry['shape']}"


def num_bytes(arrays: dict[str, jax.Array]) -> int:
    """Bytes of all arrays together, over all devices and processes."""
    return sum(array.size * array.dtype.itemsize for array in arrays.values())
