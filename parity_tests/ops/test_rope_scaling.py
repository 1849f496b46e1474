"""Rotary frequencies beyond the original length."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from parity_tests.ops.pairs import PACKAGES, array, operation, tensor
from parity_tests.tolerances import FLOAT32_OPERATION, OPERATION

ORIGINAL = 48
DTYPES = ("float32", "float64")


def host(name: str, *arguments: Any) -> Any:
    """A number or an array of the host, checked to be the same in both packages."""
    ours, theirs = (operation(package, f"rope_scaling.{name}")(*arguments) for package in PACKAGES)
    np.testing.assert_array_equal(theirs, ours)
    assert np.asarray(ours).dtype == np.float64
    return ours


def plain(base: float, rotary_dim: int) -> np.ndarray:
    return operation("jax_transformer", "position.rope_frequencies")(base, rotary_dim)


def released(kind: str, base: float, rotary_dim: int, length: int | None = None, **parameters: Any) -> np.ndarray:
    """The frequencies of transformers, for half of a head that is twice as wide."""
    rope = {"rope_type": kind, "rope_theta": base, "partial_rotary_factor": 0.5, **parameters}
    c = LlamaConfig(head_dim=2 * rotary_dim, rope_parameters=rope, max_position_embeddings=ORIGINAL)
    return ROPE_INIT_FUNCTIONS[kind](c, "cpu", seq_len=length)[0].numpy()


def on_device(name: str, frequencies: np.ndarray, lengths: np.ndarray, *rest: Any, dtype: str) -> np.ndarray:
    """Frequencies of every token in ``dtype``, checked to be the same in both packages."""
    kinds = zip(PACKAGES, (dtype, getattr(torch, dtype)), strict=True)
    ours, theirs = (
        array(operation(package, f"rope_scaling.{name}")(frequencies, tensor(package, lengths), *rest, kind))
        for package, kind in kinds
    )
    assert ours.dtype == theirs.dtype == np.dtype(dtype)
    np.testing.assert_allclose(theirs, ours, **(OPERATION if dtype == "float64" else FLOAT32_OPERATION))
    return ours


@pytest.mark.parametrize(("base", "dim"), [(10_000.0, 64), (500_000.0, 128), (100.0, 6)])
@pytest.mark.parametrize("factor", [1.0, 8.0])
def test_linear_is_that_of_transformers(base: float, dim: int, factor: float):
    want = released("linear", base, dim, factor=factor)
    np.testing.assert_allclose(host("linear", plain(base, dim), factor), want, **FLOAT32_OPERATION)


def test_ntk_slows_the_slowest_pair_by_the_factor_and_keeps_the_fastest():
    before, after = plain(100.0, 6), plain(host("ntk_base", 100.0, 6, 8.0), 6)
    np.testing.assert_allclose(before[-1] / after[-1], 8.0, **OPERATION)
    assert after[0] == before[0] == 1.0


@pytest.mark.parametrize(("base", "dim", "original"), [(10_000.0, 64, 4096), (150_000.0, 64, 4096), (1e6, 128, 32_768)])
@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize("betas", [(32.0, 1.0), (5.0, 2.0)])
def test_yarn_is_that_of_transformers(base: float, dim: int, original: int, truncate: bool, betas: tuple[float, float]):
    rest = {"truncate": truncate, "beta_fast": betas[0], "beta_slow": betas[1]}
    want = released("yarn", base, dim, factor=16.0, original_max_position_embeddings=original, **rest)
    got = host("yarn", plain(base, dim), base, 16.0, original, betas, truncate)
    np.testing.assert_allclose(got, want, **FLOAT32_OPERATION)
    shares = got / plain(base, dim)
    assert shares[0] == 1.0
    np.testing.assert_allclose(shares[-1], 1 / 16)
    assert ((shares > 1 / 15) & (shares < 0.99)).any()


def test_yarn_rounds_its_bounds_only_if_asked():
    each = [host("yarn", plain(1e4, 64), 1e4, 16.0, 4096, (32.0, 1.0), truncate) for truncate in (True, False)]
    assert np.abs(each[0] / each[1] - 1).max() > 1e-2


def test_yarn_s_bounds_may_lie_beyond_the_last_pair():
    want = released("yarn", 100.0, 8, factor=4.0, original_max_position_embeddings=1000)
    np.testing.assert_allclose(host("yarn", plain(100.0, 8), 100.0, 4.0, 1000, (32.0, 1.0), True), want, **FLOAT32_OPERATION)


@pytest.mark.parametrize(("base", "original"), [(1.5, 86), (10_000.0, 8)])
def test_yarn_steps_where_both_bounds_are_one_pair(base: float, original: int):
    # Two pairs, so few that the bounds meet: above the last or at the first.
    want = released("yarn", base, 4, factor=4.0, original_max_position_embeddings=original, beta_fast=7.0, beta_slow=5.0)
    np.testing.assert_allclose(host("yarn", plain(base, 4), base, 4.0, original, (7.0, 5.0), True), want, **FLOAT32_OPERATION)


def test_yarn_keeps_what_is_fast_enough_and_interpolates_what_never_turns():
    frequencies = plain(100.0, 6)
    np.testing.assert_array_equal(host("yarn", frequencies, 100.0, 4.0, 10**9, (32.0, 1.0), True), frequencies)
    np.testing.assert_allclose(host("yarn", frequencies, 100.0, 4.0, 2, (32.0, 1.0), True)[1:], frequencies[1:] / 4)


@pytest.mark.parametrize(("base", "dim", "original"), [(500_000.0, 128, 8192), (10_000.0, 64, 1024)])
@pytest.mark.parametrize("bounds", [(1.0, 4.0), (2.0, 3.0), (1.0, 1.0)])
def test_llama3_is_that_of_transformers(base: float, dim: int, original: int, bounds: tuple[float, float]):
    rest = {"low_freq_factor": bounds[0], "high_freq_factor": bounds[1], "original_max_position_embeddings": original}
    want = released("llama3", base, dim, factor=8.0, **rest)
    got = host("llama3", plain(base, dim), 8.0, original, bounds)
    np.testing.assert_allclose(got, want, **FLOAT32_OPERATION)
    shares = got / plain(base, dim)
    assert shares[0] == 1.0
    assert shares[-1] == 1 / 8
    assert ((shares > 0.13) & (shares < 0.99)).any() == (bounds[0] < bounds[1])


@pytest.mark.parametrize(("base", "dim"), [(10_000.0, 64), (100.0, 6)])
@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_dynamic_ntk_is_that_of_transformers_for_each_token_s_own_length(base: float, dim: int, factor: float):
    lengths = np.array([[3, ORIGINAL, ORIGINAL + 1], [100, 1000, 3]], np.int32)
    each = {dtype: on_device("dynamic_ntk", plain(base, dim), lengths, factor, ORIGINAL, dtype=dtype) for dtype in DTYPES}
    for index, length in np.ndenumerate(lengths):
        np.testing.assert_allclose(
            each["float32"][index], released("dynamic", base, dim, int(length), factor=factor), **FLOAT32_OPERATION
        )
        stretch = host("ntk_base", base, dim, factor * max(length, ORIGINAL) / ORIGINAL - (factor - 1))
        np.testing.assert_allclose(each["float64"][index], plain(stretch, dim), **OPERATION)
    np.testing.assert_array_equal(each["float64"][0, :2], np.tile(plain(base, dim), (2, 1)))
    assert not np.array_equal(each["float64"][0, 2], plain(base, dim))


def test_longrope_takes_the_long_factors_beyond_the_original_length_alone():
    factors = ((1.0, 1.5, 2.0), (1.25, 3.0, 9.0))
    lengths = np.array([[3, ORIGINAL, ORIGINAL + 1, 1000]], np.int32)
    each = {dtype: on_device("longrope", plain(100.0, 6), lengths, ORIGINAL, factors, dtype=dtype) for dtype in DTYPES}
    for index, length in np.ndenumerate(lengths):
        lists = {"short_factor": list(factors[0]), "long_factor": list(factors[1])}
        rest = {"original_max_position_embeddings": ORIGINAL, "factor": 4.0, **lists}
        np.testing.assert_allclose(
            each["float32"][index], released("longrope", 100.0, 6, int(length), **rest), **FLOAT32_OPERATION
        )
        np.testing.assert_allclose(
            each["float64"][index], plain(100.0, 6) / np.asarray(factors[int(length > ORIGINAL)]), **OPERATION
        )
