"""Fast forms are the definition at every length from 1 to 300, values and gradients, in float64.

The definition is asked once, on rows of 300 tokens of which each ends in padding after another number of them. Compiling is
what a length costs: JAX has the same rows at all lengths, and arrays of a length's own shape around the ends of blocks.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests.ops.pairs import array, operation
from parity_tests.tolerances import SEQUENCE

LONGEST, ROWS = 300, 20
"""Tokens of the longest row, and rows that are computed at once."""
WINDOW, SCALE, HEADS, KV_HEADS, WIDTH, V_DIM = 9, 0.37, 4, 2, 3, 5

BLOCKS = {"blockwise": 16, "windowed": 64, "linear": 16, "delta": 64}
"""Tokens that a form takes at once."""
DEFINED = {
    "blockwise": "attention.reference.softmax_attention",
    "windowed": "attention.reference.softmax_attention",
    "linear": "linear_attention.reference.linear_attention",
    "delta": "delta_rule.recurrent.recurrent_delta_rule",
}
FAST = {
    "blockwise": "attention.blockwise.blockwise_attention",
    "windowed": "attention.windowed.windowed_attention",
    "linear": "linear_attention.chunked.chunked_linear_attention",
    "linear, both ways": "linear_attention.chunked.chunked_bidirectional_linear_attention",
    "delta": "delta_rule.chunked.chunked_delta_rule",
}
KINDS = [*BLOCKS, "blockwise, both ways", "windowed, both ways", "linear, both ways"]


class Truth(NamedTuple):
    """The definition's answers: for each length, outputs and the gradient of each input, over all 300 tokens."""

    kind: str
    given: list[np.ndarray]
    want: list[list[np.ndarray]]


def draw(kind: str, rng: np.random.Generator) -> list[np.ndarray]:
    """One row of 300 tokens."""
    if kind != "delta":
        shapes = ((HEADS, WIDTH), (KV_HEADS, WIDTH), (KV_HEADS, V_DIM))
        return [rng.normal(size=(1, LONGEST, *shape)) for shape in shapes]
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in rng.normal(size=(2, 1, LONGEST, KV_HEADS, WIDTH)))
    gates = (-rng.exponential(size=(1, LONGEST, HEADS)), rng.uniform(0, 2, size=(1, LONGEST, HEADS)))
    return [q, k, rng.normal(size=(1, LONGEST, HEADS, V_DIM)), *gates]


def mixed(package: str, kind: str, fast: bool, given: Any, segments: Any) -> Any:
    """What a form, or its definition, makes of the inputs."""
    name, length = kind.partition(",")[0], given[0].shape[1]
    path = FAST.get(kind, FAST[name]) if fast else DEFINED[name]
    form, size = operation(package, path), {"chunk": BLOCKS[name]}
    if name == "delta" or (fast and name == "linear"):
        made = form(*given, segments=segments, **size if fast else {})
        return made[0] if isinstance(made, tuple) else made
    direction = "causal" if kind == name else "bidirectional"
    mask, window = operation(package, f"mask.{direction}_mask")(length, segments), {"window": WINDOW}
    if name == "linear":
        return form(*given, mask.allowed())
    if fast:
        return form(*given, mask, SCALE, **window if name == "windowed" else {"block": BLOCKS[name]})
    return form(*given, mask.allowed(**window if name == "windowed" else {}), SCALE)[0]


def way(length: int) -> np.ndarray:
    """The gradient of the outputs; that of a token is the same whatever follows."""
    return np.cos(np.arange(length * HEADS * V_DIM, dtype=float)).reshape(1, length, HEADS, V_DIM)


@partial(jax.jit, static_argnums=(0, 1))
def jax_results(kind: str, fast: bool, given: list[jax.Array], segments: jax.Array | None) -> list[jax.Array]:
    out, pull = jax.vjp(lambda *x: mixed("jax_transformer", kind, fast, x, segments), *given)
    return [out, *pull(jnp.broadcast_to(jnp.asarray(way(out.shape[1])), out.shape))]


def torch_results(kind: str, given: list[np.ndarray]) -> list[np.ndarray]:
    leaves = [torch.tensor(x, requires_grad=True) for x in given]
    out = mixed("torch_reference", kind, True, leaves, None)
    gradients = torch.autograd.grad((out * torch.tensor(way(out.shape[1]))).sum(), leaves, allow_unused=True)
    return [array(out), *(np.zeros(x.shape) if g is None else array(g) for g, x in zip(gradients, given, strict=True))]


def padded(kind: str, fast: bool, given: list[np.ndarray]) -> list[list[np.ndarray]]:
    """The results of every length, of rows that end in padding after it."""
    found: list[list[np.ndarray]] = []
    rows = [jnp.asarray(np.repeat(x, ROWS, axis=0)) for x in given]
    for start in range(1, LONGEST + 1, ROWS):
        ends = np.arange(start, start + ROWS)[:, None]
        parts = jax_results(kind, fast, rows, jnp.asarray((np.arange(LONGEST) < ends).astype(np.int32)))
        found.extend([np.asarray(x)[n : n + 1] for x in parts] for n in range(ROWS))
    return found


@pytest.fixture(scope="module")
def truth(request: pytest.FixtureRequest) -> Truth:
    given = draw(request.param, np.random.default_rng(len(request.param)))
    return Truth(request.param, given, padded(request.param, False, given))


def assert_defined(truth: Truth, length: int, got: list[np.ndarray]):
    """Equal, and nothing beyond the length."""
    for n, (mine, want) in enumerate(zip(got, truth.want[length - 1], strict=True)):
        assert mine.dtype == np.float64
        assert not want[:, length:].any()
        np.testing.assert_allclose(mine, want[:, : mine.shape[1]], err_msg=f"result {n} of {length} tokens", **SEQUENCE)


each = partial(pytest.mark.parametrize, "truth", indirect=True, scope="module")


@pytest.mark.slow
@each(KINDS)
def test_rows_of_every_length_are_the_definition(truth: Truth):
    for length, got in enumerate(padded(truth.kind, True, truth.given), 1):
        assert_defined(truth, length, got)


@pytest.mark.slow
@each(KINDS)
def test_arrays_around_the_ends_of_blocks_are_the_definition(truth: Truth):
    size = BLOCKS[truth.kind.partition(",")[0]]
    for length in (1, 2, size - 1, size, size + 1, 2 * size - 1, 2 * size, 2 * size + 1, LONGEST - 1):
        given = [jnp.asarray(x[:, :length]) for x in truth.given]
        assert_defined(truth, length, [np.asarray(x) for x in jax_results(truth.kind, True, given, None)])


@pytest.mark.slow
@each([kind for kind in KINDS if not kind.startswith("blockwise")])  # which torch does not have
def test_arrays_of_every_length_are_the_definition_in_torch(truth: Truth):
    for length in range(1, LONGEST + 1):
        assert_defined(truth, length, torch_results(truth.kind, [x[:, :length] for x in truth.given]))
