"""What a mesh or a sharding rule refuses."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from jax_transformer import config
from jax_transformer.config.errors import ConfigError
from jax_transformer.models import abstract_model
from jax_transformer.nn.params import ParamSpec, param_specs
from jax_transformer.sharding.mesh import build_mesh
from jax_transformer.sharding.rules import partition_spec
from parity_tests.train.objectives import hybrid


def spec(shape: tuple[int, ...], axes: tuple[str, ...]) -> ParamSpec:
    return ParamSpec(shape, jnp.dtype("float32"), axes, 1)


def test_a_stacked_kernel_keeps_its_repeats_whole() -> None:
    mesh = build_mesh(config.Mesh(fsdp=4, tensor=2))
    found = partition_spec("w", spec((3, 8, 4, 6), ("embed", "heads", "head_dim")), mesh)
    assert found == PartitionSpec(None, "fsdp", "tensor", None)


def test_every_parameter_of_a_hybrid_has_a_rule_and_heads_split_together() -> None:
    mesh, specs = build_mesh(config.Mesh(fsdp=4, tensor=2)), param_specs(abstract_model(hybrid()))
    found = {name: partition_spec(name, spec, mesh) for name, spec in specs.items()}
    layer = "stack.slots.0.attn"
    assert found[f"{layer}.q_conv.filter"] == PartitionSpec(None, "tensor", None)
    assert found[f"{layer}.q_proj.kernel"] == PartitionSpec(None, "fsdp", "tensor", None)
    assert found[f"{layer}.A_log"] == found[f"{layer}.dt_bias"] == PartitionSpec(None, "tensor")


def test_minus_one_takes_the_devices_that_remain() -> None:
    assert dict(build_mesh(config.Mesh(data=2, fsdp=-1, tensor=2)).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert dict(build_mesh(config.Mesh(), jax.devices()[:1]).shape) == {"data": 1, "fsdp": 1, "tensor": 1}


@pytest.mark.parametrize(
    "mesh", [config.Mesh(fsdp=3), config.Mesh(data=2, fsdp=2), config.Mesh(data=16), config.Mesh(tensor=5)]
)
def test_a_mesh_that_does_not_fit_names_its_axes_and_the_devices(mesh: config.Mesh) -> None:
    with pytest.raises(ConfigError, match=r"mesh\.data=.*does not fit 8 devices"):
        build_mesh(mesh)


def test_a_dimension_that_does_not_divide_names_the_parameter() -> None:
    mesh = build_mesh(config.Mesh(fsdp=4, tensor=2))
    with pytest.raises(ConfigError, match=r"stack\.w: dimension 'heads' of size 3 cannot be split over mesh\.tensor=2"):
        partition_spec("stack.w", spec((8, 3), ("embed", "heads")), mesh)


def test_two_dimensions_on_one_mesh_axis_are_refused() -> None:
    mesh = build_mesh(config.Mesh(fsdp=4, tensor=2))
    with pytest.raises(ConfigError, match=r"w: dimensions 'heads' and 'ffn' both map to mesh axis 'tensor'"):
        partition_spec("w", spec((4, 4), ("heads", "ffn")), mesh)


def test_an_axis_without_a_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="w: logical axis 'depth' has no sharding rule"):
        partition_spec("w", spec((4,), ("depth",)), build_mesh(config.Mesh()))
