"""What cuDNN is asked for is attention: the same arguments, computed by XLA, give the definition."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_transformer.config.errors import ConfigError
from jax_transformer.ops.attention import cudnn
from jax_transformer.ops.attention.cudnn import cudnn_attention
from jax_transformer.ops.attention.reference import softmax_attention
from jax_transformer.ops.mask import bidirectional_mask, causal_mask
from parity_tests.ops.packing import packed
from parity_tests.tolerances import CUDNN, FLOAT32_GRADIENT, FLOAT32_MODULE

SCALE, LENGTH = 0.37, 48
SIGHTS = [{}, {"window": 1}, {"window": 9}, {"window": 9, "sink_tokens": 2}]


def inputs(rng: np.random.Generator, dtype: str, length: int = LENGTH) -> list[jax.Array]:
    return [jnp.asarray(rng.normal(size=(2, length, heads, 16)), dtype) for heads in (6, 3, 3)]


@pytest.mark.parametrize("sight", SIGHTS, ids=str)
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("build", [causal_mask, bidirectional_mask])
def test_the_arguments_are_those_of_the_definition(build: Callable, several: bool, sight: dict, rng: np.random.Generator):
    mask = build(LENGTH, jnp.asarray(packed(rng, LENGTH)) if several else None)
    given = inputs(rng, "float32")
    got, pull = jax.vjp(lambda *x: cudnn_attention(*x, mask, SCALE, **sight, backend="xla"), *given)
    want, defined = jax.vjp(lambda *x: softmax_attention(*x, mask.allowed(**sight), SCALE)[0], *given)
    np.testing.assert_allclose(got, want, **FLOAT32_MODULE)
    for mine, other in zip(pull(jnp.cos(got)), defined(jnp.cos(got)), strict=True):
        np.testing.assert_allclose(mine, other, **FLOAT32_GRADIENT)


@pytest.mark.parametrize(("window", "said"), [(None, None), (9, (8, 0))])
def test_a_mask_that_can_be_said_in_words_is_never_built(
    window: int | None, said: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    asked: dict[str, Any] = {}
    monkeypatch.setattr(cudnn.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(cudnn.jax.nn, "dot_product_attention", lambda q, k, v, **options: asked.update(options) or q)
    cudnn_attention(*inputs(rng, "bfloat16"), causal_mask(LENGTH), SCALE, window=window)
    assert asked == {"scale": SCALE, "is_causal": True, "local_window_size": said, "implementation": "cudnn"}


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_a_machine_without_gpu_is_refused(rng: np.random.Generator):
    with pytest.raises(ConfigError, match="cudnn on cpu: it needs an NVIDIA GPU; use implementation: auto"):
        cudnn_attention(*inputs(rng, "bfloat16"), causal_mask(LENGTH), SCALE)


def test_what_cudnn_cannot_compute_is_refused(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cudnn.jax, "default_backend", lambda: "gpu")
    with pytest.raises(ConfigError, match="cudnn in float32: it computes in bfloat16 or float16"):
        cudnn_attention(*inputs(rng, "float32"), causal_mask(LENGTH), SCALE)
    with pytest.raises(ConfigError, match=r"cudnn with 47 tokens: .* it wants an even length"):
        cudnn_attention(*inputs(rng, "bfloat16", 47), bidirectional_mask(47), SCALE, window=3)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs an NVIDIA GPU")
@pytest.mark.parametrize("several", [False, True])
def test_cudnn_computes_the_definition(several: bool, rng: np.random.Generator):
    mask = causal_mask(LENGTH, jnp.asarray(packed(rng, LENGTH)) if several else None)
    given = inputs(rng, "bfloat16")
    got, pull = jax.vjp(lambda *x: cudnn_attention(*x, mask, SCALE, window=9), *given)
    want, defined = jax.vjp(lambda *x: softmax_attention(*x, mask.allowed(9), SCALE)[0], *given)
    np.testing.assert_allclose(np.float32(got), np.float32(want), **CUDNN)
    for mine, other in zip(pull(jnp.cos(want)), defined(jnp.cos(want)), strict=True):
        np.testing.assert_allclose(np.float32(mine), np.float32(other), **CUDNN)
