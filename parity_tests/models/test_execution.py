"""How the layers are executed changes no number: one scan or one by one, whatever is recomputed, with and without dropout."""

from functools import cache

import jax
import numpy as np
import pytest

from jax_transformer.config import Decoder, Dtype
from jax_transformer.models import abstract_model, build_model
from jax_transformer.nn.params import get_params, with_params
from jax_transformer.ops.dropout import Noise
from parity_tests.builders import attention, block, decoder
from parity_tests.tolerances import OPERATION, relative_error

TOKENS = np.asarray([[3, 1, 4, 1, 5], [2, 6, 5, 3, 5]])


def model_config(remat: str = "none", unroll: bool = False) -> Decoder:
    stack = {"remat": remat, "unroll": unroll, "drop_path": 0.3}
    dtype = Dtype(param="float64", compute="float64", logits="float64")
    pattern = block(attention(dropout=0.2), dropout=0.2), block(attention(window=2))
    return decoder(*pattern, num_layers=5, stack=stack, dtype=dtype)


@cache
def answers(remat: str, unroll: bool) -> list[np.ndarray]:
    """Logits and gradients, without and with dropout, for the weights of one model."""
    skeleton = abstract_model(model_config(remat, unroll))

    def both(params: dict[str, jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        noises = (None, Noise(jax.random.key(3)))
        logits = [with_params(skeleton, params)(TOKENS, noise=noise)[0] for noise in noises]
        return sum(((out**2).sum() for out in logits), start=0.0), logits

    gradients, logits = jax.jit(jax.grad(both, has_aux=True))(get_params(build_model(model_config())))
    return [np.asarray(value) for value in (*logits, *gradients.values())]


@pytest.mark.parametrize(("remat", "unroll"), [("none", True), ("full", True), ("dots", False), ("dots_no_batch", False)])
def test_execution_changes_no_number(remat: str, unroll: bool) -> None:
    for got, want in zip(answers(remat, unroll), answers("none", False), strict=True):
        assert relative_error(got, want) <= OPERATION["rtol"]


def test_dropout_was_on() -> None:
    logits, dropped, *_ = answers("none", False)
    assert np.abs(logits - dropped).max() > 1e-3
