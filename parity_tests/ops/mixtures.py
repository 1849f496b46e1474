"""Mixtures of experts for tests: drawn parameters, and the outputs and all gradients of a form."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jax_transformer.ops.experts.dense import Experts
from parity_tests.ops.pairs import array, operation
from parity_tests.tolerances import SEQUENCE

E, D, F = 5, 3, 7

Form = Callable[..., Any]
"""Of tokens, weights, ``Experts`` and the ids that were chosen."""


class Outcome(NamedTuple):
    """The outputs, and the gradients of a fixed sum over them."""

    outputs: np.ndarray
    gradients: dict[str, np.ndarray]


def parameters(rng: np.random.Generator, gated: bool, biased: bool, num_experts: int = E) -> dict[str, np.ndarray]:
    shapes = {"up": (D, F), "down": (F, D)} | ({"gate": (D, F)} if gated else {})
    if biased:
        shapes |= {f"{name}_bias": shape[1:] for name, shape in list(shapes.items())}
    return {name: rng.normal(size=(num_experts, *shape)) for name, shape in shapes.items()}


def jax_activate(*x: jax.Array) -> jax.Array:
    return jnp.tanh(x[0]) if len(x) == 1 else jax.nn.silu(x[0]) * x[1]


def torch_activate(*x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x[0]) if len(x) == 1 else torch.nn.functional.silu(x[0]) * x[1]


def outcome(form: Form, x: np.ndarray, weights: np.ndarray, experts: dict[str, np.ndarray], ids: np.ndarray) -> Outcome:
    """Of a form in JAX, compiled once for all arrays of the same shapes."""
    given = jax.tree.map(jnp.asarray, {"x": x, "weights": weights} | experts)
    way = jnp.asarray(np.cos(np.arange(x.size)).reshape(x.shape))
    outputs, gradients = compiled(form, given, jnp.asarray(ids), way)
    return Outcome(array(outputs), {name: array(value) for name, value in gradients.items()})


@partial(jax.jit, static_argnums=0)
def compiled(form: Form, given: dict[str, Any], ids: jax.Array, way: jax.Array) -> tuple[Any, Any]:
    outputs, pull = jax.vjp(lambda given: form(given["x"], given["weights"], Experts(**without(given)), ids), given)
    return outputs, pull(way)[0]


def without(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in ("x", "weights")}


def torch_outcome(form: Form, x: np.ndarray, weights: np.ndarray, experts: dict[str, np.ndarray]) -> Outcome:
    """The same in torch."""
    leaves = {name: torch.tensor(v, requires_grad=True) for name, v in ({"x": x, "weights": weights} | experts).items()}
    outputs = form(leaves["x"], leaves["weights"], operation("torch_reference", "experts.dense.Experts")(**without(leaves)))
    total = (outputs * torch.tensor(np.cos(np.arange(x.size)).reshape(x.shape))).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))
    return Outcome(array(outputs), {name: array(g) for name, g in zip(leaves, gradients, strict=True)})


def assert_same(got: Outcome, want: Outcome):
    assert got.gradients.keys() == want.gradients.keys()
    np.testing.assert_allclose(got.outputs, want.outputs, **SEQUENCE)
    for name, gradient in want.gradients.items():
        assert gradient.dtype == np.float64
        np.testing.assert_allclose(got.gradients[name], gradient, err_msg=name, **SEQUENCE)


def drawn_choices(rng: np.random.Generator, n: int, k: int, num_experts: int = E) -> np.ndarray:
    """k different experts for every token."""
    return np.argsort(rng.random((n, num_experts)), axis=1)[:, :k]


KINDS = [(gated, biased) for gated in (True, False) for biased in (True, False)]
