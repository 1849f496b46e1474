"""Sequences for mixers that carry a state: drawn segments, and a form's results with all of its gradients."""

from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from parity_tests.ops.pairs import PACKAGES, array, operation, tensor
from parity_tests.tolerances import SEQUENCE

LENGTHS = [(1, 64), (3, 64), (13, 4), (65, 64), (130, 64)]
"""Tokens, and tokens of a chunk: none, one and several chunks, whose last is never full."""


class Results(NamedTuple):
    """What a form returns, and the gradients of a fixed sum over all of it with respect to every floating input."""

    outputs: list[np.ndarray]
    gradients: list[np.ndarray]


def packed(length: int) -> np.ndarray:
    """Segments of four rows: with padding before, between and after them; five tokens each; one; and nothing but padding."""
    rows = np.zeros((4, length), int)
    rows[0, length // 8 :] = 1
    rows[0, length // 4 : length // 2] = 2
    rows[0, length // 2 : length // 2 + length // 6] = 0
    rows[0, length // 2 + length // 6 :] = 3
    rows[0, length - length // 5 :] = 0
    rows[1] = 1 + np.arange(length) // 5
    rows[2] = 1
    return rows


def results(package: str, path: str, arrays: dict[str, Any], only_first: bool = False, **options: Any) -> Results:
    """Of the operation on ``arrays``, a tree of float64, and ``options``; ``only_first`` leaves the last state out."""
    options = {name: tensor(package, value) for name, value in options.items()}

    def function(arrays: dict[str, Any]) -> list[Any]:
        return jax.tree.leaves(operation(package, path)(**arrays, **options))[: 1 if only_first else None]

    if package == "jax_transformer":
        outputs, gradients = jax.jit(lambda arrays: _jax_results(function, arrays))(arrays)
    else:
        given = jax.tree.map(lambda x: torch.tensor(x, requires_grad=True), arrays)
        outputs = function(given)
        weights = [torch.tensor(_weights(x)) for x in outputs]
        total = sum((weight * x).sum() for weight, x in zip(weights, outputs, strict=True))
        gradients = torch.autograd.grad(total, jax.tree.leaves(given), allow_unused=True, materialize_grads=True)
    return Results([array(x) for x in outputs], [array(x) for x in gradients])


def run(package: str, path: str, arrays: dict[str, Any], dtype: str | None = None, **options: Any) -> list[np.ndarray]:
    """What the operation returns, leaf by leaf; ``arrays`` go in as ``dtype``."""
    given = jax.tree.map(lambda x: tensor(package, x, dtype), arrays)
    options = {name: tensor(package, value) for name, value in options.items()}

    def function(arrays: dict[str, Any]) -> list[Any]:
        return jax.tree.leaves(operation(package, path)(**arrays, **options))

    return [array(x) for x in (jax.jit(function) if package == "jax_transformer" else function)(given)]


def cut(arrays: dict[str, np.ndarray], at: slice) -> dict[str, np.ndarray]:
    """Some of the tokens."""
    return {name: x[:, at] for name, x in arrays.items()}


def agreed_results(path: str, arrays: dict[str, Any], **options: Any) -> Results:
    """The results, after checking that both packages have the same in float64."""
    ours, theirs = (results(package, path, arrays, **options) for package in PACKAGES)
    assert_close(theirs, ours)
    return ours


def assert_close(got: Results, want: Results):
    """Outputs and gradients are equal, and the gradients are of something."""
    for mine, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert mine.dtype == other.dtype == np.float64
        np.testing.assert_allclose(mine, other, **SEQUENCE)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(want))
    assert any(x.any() for x in want.gradients)


def _jax_results(function: Any, arrays: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    outputs, pull = jax.vjp(function, arrays)
    return outputs, jax.tree.leaves(pull([jax.numpy.asarray(_weights(x)) for x in outputs])[0])


def _weights(x: Any) -> np.ndarray:
    return np.cos(np.arange(np.prod(x.shape), dtype=float)).reshape(x.shape)
