"""Modules of positions that are added to the embedding."""

from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from jax_transformer import config
from jax_transformer.nn.params import Maker, get_params, with_params
from parity_tests.ops.pairs import PACKAGES, array, tensor
from parity_tests.tolerances import OPERATION
from torch_reference.nn.params import Maker as TorchMaker


def build(package: str, c: config.AbsolutePosition, dim: int, dtype: config.DtypeName = "float64") -> Any:
    """The module of one package, with at most nine positions."""
    table = import_module(f"{package}.nn.absolute_position").ABSOLUTE_POSITION
    recipe = (config.Dtype(param=dtype, compute=dtype), 0.5, 0.5)
    if package == "jax_transformer":
        return table[type(c)](c, 9, dim, Maker(jax.random.key(0), *recipe))
    return table[type(c)](c, 9, dim, TorchMaker(torch.Generator(), *recipe))


def absolute(c: config.AbsolutePosition, dim: int, table: np.ndarray | None = None) -> tuple[Any, nn.Module]:
    """The modules of both packages, holding ``table`` if they have one."""
    ours, theirs = (build(package, c, dim) for package in PACKAGES)
    weights = {} if table is None else {"table": table}
    theirs.load_state_dict({f"{name}.weight": torch.tensor(value) for name, value in weights.items()})
    assert get_params(ours).keys() == {f"{name}.embedding" for name in weights}
    return with_params(ours, {f"{name}.embedding": jnp.asarray(value) for name, value in weights.items()}), theirs


def looked_up(each: tuple[Any, nn.Module], positions: np.ndarray) -> np.ndarray:
    """Vectors of positions, after checking that both packages have the same."""
    ours, theirs = (array(module(tensor(p, positions.astype(np.int32)))) for p, module in zip(PACKAGES, each, strict=True))
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(theirs, ours, **OPERATION)
    return ours


POSITIONS = np.array([[0, 1, 8], [-1, 0, 3]])


@pytest.mark.parametrize("denominator", ["half", "half_minus_one"])
def test_sinusoidal_is_its_formula(denominator: Any):
    c = config.Sinusoidal(base=50.0, layout="halves", denominator=denominator, offset=2)
    got = looked_up(absolute(c, 6), POSITIONS)
    angles = (POSITIONS[..., None] + 2) * 50.0 ** (-np.arange(3) / (3 if denominator == "half" else 2))
    np.testing.assert_allclose(got, np.concatenate([np.sin(angles), np.cos(angles)], -1), **OPERATION)
    interleaved = looked_up(absolute(c.model_copy(update={"layout": "interleaved"}), 6), POSITIONS)
    np.testing.assert_array_equal(interleaved[..., 0::2], got[..., :3])
    np.testing.assert_array_equal(interleaved[..., 1::2], got[..., 3:])


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("c", [config.Sinusoidal(), config.Learned(offset=2)])
def test_positions_come_in_the_compute_dtype(package: str, c: Any):
    got = build(package, c, 6, "bfloat16")(tensor(package, POSITIONS, "int32"))
    assert str(got.dtype).endswith("bfloat16")


def test_learned_positions_are_rows_of_the_table_after_its_offset(rng: np.random.Generator):
    table = rng.normal(size=(11, 6))
    got = looked_up(absolute(config.Learned(offset=2), 6, table), POSITIONS)
    np.testing.assert_array_equal(got, table[np.maximum(POSITIONS, 0) + 2])
