"""The device mesh of a run."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jax_transformer import config
from jax_transformer.config.errors import ConfigError


def build_mesh(c: config.Mesh, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over all ``devices`` (default: every device of every process) with axes data, fsdp and tensor.

    Raises ConfigError if the axis sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = {"data": c.data, "fsdp": c.fsdp, "tensor": c.tensor}
    known = math.prod(size for size in sizes.values() if size != -1)
    free = [axis for axis, size in sizes.items() if size == -1]
    wanted = ", ".join(f"mesh.{axis}={size}" for axis, size in sizes.items())
    if len(devices) % known or (not free and known != len(devices)):
        raise ConfigError(
            f"{wanted} does not fit {len(devices)} devices: the sizes must multiply to {len(devices)}; "
            "set one axis to -1 to take the devices that remain"
        )
    for axis in free:
        sizes[axis] = len(devices) // known
    shape = tuple(sizes.values())
    # The default axis type is Explicit, under which ordinary code would have to state the sharding of every gather.
    auto = (AxisType.Auto,) * len(shape)
    if devices is jax.devices() or len(devices) == jax.device_count():
        return jax.make_mesh(shape, tuple(sizes), axis_types=auto, devices=devices)
    return Mesh(np.asarray(devices).reshape(shape), tuple(sizes), axis_types=auto)
