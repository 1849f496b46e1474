"""Dropping values: the numbers are random, so their distribution is the law."""

import jax
import numpy as np
import pytest
import torch

from jax_transformer.ops.dropout import Noise
from parity_tests.ops.pairs import PACKAGES, array, operation, tensor
from parity_tests.tolerances import FLOAT32_OPERATION
from torch_reference.ops.dropout import Noise as TorchNoise

RATE = 0.3
ONES = np.ones((50, 400))
FIVE_SIGMA = 5 * np.sqrt(RATE * (1 - RATE))


def noise(package: str, seed: int = 0, scale: float = 1.0) -> Noise | TorchNoise:
    return Noise(jax.random.key(seed), scale) if package == "jax_transformer" else TorchNoise(torch.tensor(seed), scale)


def drop(package: str, name: str, x: np.ndarray, rate: float, source: Noise | TorchNoise | None) -> np.ndarray:
    return array(operation(package, f"dropout.{name}")(tensor(package, x), rate, source))


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> str:
    return request.param


def test_values_drop_with_the_rate_and_the_others_grow(package: str):
    dropped = drop(package, "dropout", ONES, RATE, noise(package))
    assert abs((dropped == 0).mean() - RATE) < FIVE_SIGMA / np.sqrt(ONES.size)
    np.testing.assert_allclose(dropped[dropped != 0], 1 / (1 - RATE), **FLOAT32_OPERATION)


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_and_columns_drop_alike(package: str, axis: int):
    shares = (drop(package, "dropout", ONES, RATE, noise(package)) == 0).mean(axis)
    assert np.abs(shares - RATE).max() < FIVE_SIGMA / np.sqrt(ONES.shape[axis])
    assert shares.std() > 0.5 * np.sqrt(RATE * (1 - RATE) / ONES.shape[axis])


def test_a_path_drops_whole_samples(package: str):
    x = np.ones((4000, 2, 3))
    dropped = drop(package, "drop_path", x, RATE, noise(package))
    assert (dropped == dropped[:, :1, :1]).all()
    assert abs((dropped[:, 0, 0] == 0).mean() - RATE) < FIVE_SIGMA / np.sqrt(4000)
    np.testing.assert_allclose(dropped[dropped != 0], 1 / (1 - RATE), **FLOAT32_OPERATION)


@pytest.mark.parametrize("name", ["dropout", "drop_path"])
def test_without_noise_nothing_drops(package: str, name: str):
    np.testing.assert_array_equal(drop(package, name, ONES, RATE, None), ONES)


@pytest.mark.parametrize("name", ["dropout", "drop_path"])
@pytest.mark.parametrize(("scale", "share"), [(0.0, 0.0), (0.5, 0.15)])
def test_the_scale_multiplies_the_rate(package: str, name: str, scale: float, share: float):
    dropped = drop(package, name, np.ones((8000, 1)), RATE, noise(package, scale=scale).fold(2))
    assert abs((dropped == 0).mean() - share) < 5 * np.sqrt(share * (1 - share) / 8000) + 1e-9
    np.testing.assert_allclose(dropped[dropped != 0], 1 / (1 - share), **FLOAT32_OPERATION)


def test_the_same_noise_drops_the_same_values(package: str):
    first, second, other = (drop(package, "dropout", ONES, RATE, noise(package, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_folded_and_split_noises_are_independent(package: str):
    root = noise(package, 5)
    parts = root.split(3)
    stacked = [jax.tree.map(lambda leaf, i=i: leaf[i], parts) for i in range(3)] if package == "jax_transformer" else parts
    sources = [root, root.fold(7), root.fold(7).fold(7), root.fold(8), noise(package, 6).fold(7), *stacked]
    dropped = np.stack([drop(package, "dropout", ONES, RATE, source).ravel() == 0 for source in sources])
    correlations = np.corrcoef(dropped)[np.triu_indices(len(sources), 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(ONES.size)


def test_dropping_keeps_the_dtype(package: str):
    for dtype in ("bfloat16", "float32", "float64"):
        x = tensor(package, ONES, dtype)
        assert operation(package, "dropout.dropout")(x, RATE, noise(package)).dtype == x.dtype
