"""Where activations live on the mesh."""

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Shaped

ACTIVATION_AXES: dict[str | None, tuple[str, ...]] = {
    None: (),
    "batch": ("data", "fsdp"),
    "heads": ("tensor",),
    "ffn": ("tensor",),
    "vocab": ("tensor",),
}
"""Logical activation dimension -> mesh axes."""


def constrain(x: Shaped[Array, "..."], *logical: str | None) -> Shaped[Array, "..."]:
    """Pin ``x`` to the mesh, one logical name per dimension; does nothing where no mesh is set.

    A dimension that its mesh axes do not divide (a head count of 1, a small evaluation batch) stays unconstrained: here the
    choice costs speed and never changes a number.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    spec = []
    for size, name in zip(x.shape, logical, strict=True):
        axes = tuple(axis for axis in ACTIVATION_AXES[name] if axis in mesh.axis_names)
        devices = 1
        for axis in axes:
            devices *= mesh.shape[axis]
        spec.append(axes if axes and size % devices == 0 else None)
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))
