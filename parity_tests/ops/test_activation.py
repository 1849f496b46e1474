"""Nonlinearities."""

from typing import get_args

import numpy as np
import pytest

from jax_transformer.config import Activation
from parity_tests.ops.pairs import EXACT, PACKAGES, array, operation, tensor

X = np.concatenate([np.linspace(-12, 12, 97), [-1e3, -1e-9, 0.0, 1e-9, 1e3]])


def values(package: str, name: str) -> np.ndarray:
    return array(operation(package, "activation.ACTIVATION")[name](tensor(package, X)))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_table_is_the_config_s(package: str):
    assert set(operation(package, "activation.ACTIVATION")) == set(get_args(Activation))


@pytest.mark.parametrize("name", get_args(Activation))
def test_both_packages_compute_the_same(name: str):
    np.testing.assert_allclose(values("torch_reference", name), values("jax_transformer", name), **EXACT)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_forms_of_gelu_are_told_apart(package: str):
    assert 1e-4 < np.abs(values(package, "gelu_erf") - values(package, "gelu_tanh")).max() < 1e-3
    at_one = np.flatnonzero(X == 1.0)[0]
    np.testing.assert_allclose(values(package, "gelu_erf")[at_one], 0.8413447460685429)
    np.testing.assert_allclose(values(package, "gelu_tanh")[at_one], 0.8411919906082768)
