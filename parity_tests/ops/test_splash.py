"""The TPU's kernel, interpreted, is attention; what it cannot compute is refused."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_transformer.config.errors import ConfigError
from jax_transformer.ops.attention.reference import softmax_attention
from jax_transformer.ops.attention.splash import splash_attention
from jax_transformer.ops.mask import bidirectional_mask, causal_mask
from parity_tests.ops.packing import packed
from parity_tests.tolerances import FLOAT32_GRADIENT, FLOAT32_MODULE

SCALE, LENGTH = 0.37, 256


def inputs(rng: np.random.Generator, length: int = LENGTH, dtype: str = "float32") -> list[jax.Array]:
    """No two dimensions are the same."""
    shapes = [(2, length, 6, 8), (2, length, 3, 8), (2, length, 3, 16)]
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


@pytest.mark.parametrize(
    ("build", "several", "window", "shape"),
    [
        (causal_mask, False, None, ()),
        (causal_mask, True, 70, ("softcap", "sinks")),
        (bidirectional_mask, True, 30, ()),
        (bidirectional_mask, False, None, ("softcap",)),
    ],
)
def test_the_kernel_gives_the_definition_and_its_gradients(
    build: Callable, several: bool, window: int | None, shape: tuple[str, ...], rng: np.random.Generator
):
    mask = build(LENGTH, jnp.asarray(packed(rng, LENGTH)) if several else None)
    sinks = jnp.asarray(rng.normal(size=6), jnp.float32) if "sinks" in shape else None
    softcap = 0.8 if "softcap" in shape else None

    def interpreted(*x: Any) -> jax.Array:
        return splash_attention(*x[:3], mask, SCALE, window=window, softcap=softcap, sinks=x[3], interpret=True)

    def definition(*x: Any) -> jax.Array:
        return softmax_attention(*x[:3], mask.allowed(window), SCALE, softcap=softcap, sinks=x[3])[0]

    given = (*inputs(rng), sinks)
    with jax.enable_x64(False):  # the kernel counts blocks in int32
        (got, pull), (want, defined) = (jax.vjp(form, *given) for form in (interpreted, definition))
        gradients, truths = (jax.tree.leaves(p(jnp.cos(want))) for p in (pull, defined))
    np.testing.assert_allclose(got, want, **FLOAT32_MODULE)
    for mine, other in zip(gradients, truths, strict=True):
        np.testing.assert_allclose(mine, other, **FLOAT32_GRADIENT)


def test_what_the_kernel_cannot_compute_is_refused(rng: np.random.Generator):
    with pytest.raises(ConfigError, match="splash on cpu: it needs a TPU; use implementation: auto"):
        splash_attention(*inputs(rng), causal_mask(LENGTH), SCALE)
    with pytest.raises(ConfigError, match="splash with 200 tokens: it wants a multiple of 128"):
        splash_attention(*inputs(rng, 200), causal_mask(200), SCALE, interpret=True)
    with pytest.raises(ConfigError, match="splash in float64: it computes in float32"):
        splash_attention(*inputs(rng, dtype="float64"), causal_mask(LENGTH), SCALE, interpret=True)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh), pytest.raises(ConfigError, match="splash on a mesh of 2 devices"):
        splash_attention(*inputs(rng), causal_mask(LENGTH), SCALE, interpret=True)
