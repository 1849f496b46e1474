"""Attention through a window is masked attention at a smaller price, in both packages."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_transformer.ops.attention import windowed
from jax_transformer.ops.dropout import Noise
from parity_tests.ops.packing import packed
from parity_tests.ops.pairs import PACKAGES, array, operation, tensor
from parity_tests.tolerances import MODULE, OPERATION

SCALE, HEADS = 0.37, 6

SIZES = [(1, 1), (5, 9), (64, 64), (65, 1), (70, 9), (70, 300), (200, 9), (200, 64), (200, 70)]
"""Lengths and windows. Blocks have 64 tokens or as many as the window: one block, exactly one, barely two, and several."""


def inputs(rng: np.random.Generator, length: int) -> dict[str, np.ndarray]:
    """No two dimensions are the same."""
    shapes = {"q": (2, length, HEADS, 4), "k": (2, length, 3, 4), "v": (2, length, 3, 5)}
    drawn = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    return drawn | {"sinks": rng.normal(size=HEADS), "table": rng.normal(size=(8, HEADS))}


def mask(package: str, length: int, segments: np.ndarray | None, causal: bool) -> Any:
    kind = "causal" if causal else "bidirectional"
    return operation(package, f"mask.{kind}_mask")(length, tensor(package, segments))


def mix(package: str, form: str, given: dict[str, Any], sight: tuple[Any, int], names: tuple[str, ...]) -> Any:
    """What the form makes of the inputs, under a mask and through a window, with the options of these names."""
    own, window = sight

    def bias(table: Any, offsets: Any) -> Any:
        buckets = operation(package, "position_bias.relative_buckets")(offsets, 8, 20, True)
        return operation(package, "position_bias.bucket_bias")(table, buckets)

    options = {"softcap": 0.8 if "softcap" in names else None, "sinks": given["sinks"] if "sinks" in names else None}
    arguments = (given["q"], given["k"], given["v"])
    attend = operation(package, f"attention.{form}.{'softmax' if form == 'reference' else form}_attention")
    if form == "windowed":
        offset_bias = operation(package, "position_bias.OffsetBias")
        options["bias"] = offset_bias(given["table"], bias) if "bias" in names else None
        return attend(*arguments, own, SCALE, window=window, **options)
    options["bias"] = bias(given["table"], own.offsets()) if "bias" in names else None
    return attend(*arguments, own.allowed(window), SCALE, **options)[0]


def results(package: str, form: str, given: dict[str, np.ndarray], *how: Any) -> list[np.ndarray]:
    """What is mixed, and the gradients of the inputs by name; how: segments, causal, window, options."""
    segments, causal, window, names = how
    length = given["q"].shape[1]
    sight = (mask(package, length, segments, causal), window)
    if package == "jax_transformer":
        arrays = {name: jnp.asarray(x) for name, x in given.items()}
        mixed, pull = jax.vjp(lambda x: mix(package, form, x, sight, names), arrays)
        gradients = pull(jnp.cos(jnp.arange(mixed.size, dtype=mixed.dtype)).reshape(mixed.shape))[0]
        return [array(mixed), *(array(gradients[name]) for name in sorted(given))]
    tensors = {name: torch.tensor(x, requires_grad=True) for name, x in given.items()}
    mixed = mix(package, form, tensors, sight, names)
    mixed.backward(torch.cos(torch.arange(mixed.numel(), dtype=mixed.dtype)).reshape(mixed.shape))
    used = (tensors[name].grad for name in sorted(given))
    return [
        array(mixed),
        *(np.zeros(given[n].shape) if x is None else array(x) for n, x in zip(sorted(given), used, strict=True)),
    ]


def assert_defined(given: dict[str, np.ndarray], *how: Any):
    """Values and gradients are those of the definition, and the same in both packages."""
    want = results("torch_reference", "reference", given, *how)
    ours, theirs = (results(package, "windowed", given, *how) for package in PACKAGES)
    for mine, other, defined in zip(ours, theirs, want, strict=True):
        np.testing.assert_allclose(mine, other, **OPERATION)
        np.testing.assert_allclose(mine, defined, **MODULE)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("length", "window"), SIZES)
def test_blocks_give_the_definition_and_its_gradients(length: int, window: int, causal: bool, rng: np.random.Generator):
    assert_defined(inputs(rng, length), None, causal, window, ())
    assert_defined(inputs(rng, length), packed(rng, length), causal, window, ())


@pytest.mark.parametrize("names", [("softcap",), ("sinks",), ("bias",), ("softcap", "sinks", "bias")])
@pytest.mark.parametrize("causal", [True, False])
def test_every_option_is_that_of_the_definition(causal: bool, names: tuple[str, ...], rng: np.random.Generator):
    assert_defined(inputs(rng, 150), packed(rng, 150), causal, 9, names)


def wait_for_one_another(monkeypatch: pytest.MonkeyPatch, blocks: int, sides: int):
    """Let the blocks of 64 tokens be taken so many at a time."""
    monkeypatch.setattr(windowed, "SCORES_AT_ONCE", blocks * 2 * HEADS * 64 * 64 * (1 + sides))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_blocks_that_wait_for_one_another_give_the_same(
    blocks: int, causal: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    # Of 300 tokens: five parts, three of which the last is half padding, two.
    wait_for_one_another(monkeypatch, blocks, 1 if causal else 2)
    assert_defined(inputs(rng, 300), packed(rng, 300), causal, 40, ("softcap", "sinks", "bias"))


def test_each_part_drops_by_its_own_noise(monkeypatch: pytest.MonkeyPatch):
    wait_for_one_another(monkeypatch, 1, 1)
    same, ones = jnp.zeros((2, 192, HEADS, 4)), jnp.ones((2, 192, HEADS, 1))
    own, drop = mask("jax_transformer", 192, None, True), (0.5, Noise(jax.random.key(0)))
    mixed = windowed.windowed_attention(same, same, ones, own, SCALE, window=64, drop=drop)
    assert abs(mixed.mean() - 1) < 0.1
    assert not (mixed[:, 64:128] == mixed[:, 128:]).all(axis=(1, 2, 3)).any()


@pytest.mark.parametrize("package", PACKAGES)
def test_padding_gives_zeros(package: str, rng: np.random.Generator):
    given, segments = inputs(rng, 150), packed(rng, 150)
    mixed, *gradients = results(package, "windowed", given, segments, True, 9, ("sinks",))
    assert not mixed[segments == 0].any()
    assert np.abs(mixed[segments != 0]).min() > 0
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("causal", [True, False])
def test_blocks_beyond_the_window_are_not_computed(package: str, causal: bool, rng: np.random.Generator):
    # Whatever is computed with these keys and values is NaN, even where it is multiplied by zero.
    given = inputs(rng, 256)
    given["k"][:, :64], given["v"][:, :64] = np.nan, np.nan
    mixed, *_ = results(package, "windowed", given, None, causal, 64, ())
    assert np.isfinite(mixed[:, 128:]).all()
    assert np.isnan(mixed[:, 64:127]).all()


def test_memory_grows_with_the_length_and_not_with_its_square(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch):
    def largest(length: int) -> int:
        given = {name: jnp.asarray(x) for name, x in inputs(rng, length).items()}
        sight = (mask("jax_transformer", length, None, True), 16)
        loss = jax.grad(lambda x: mix("jax_transformer", "windowed", x, sight, ("bias",)).sum())
        return max(v.aval.size for e in equations(jax.make_jaxpr(loss)(given).jaxpr) for v in e.outvars)

    assert largest(2048) == 2 * largest(1024)
    wait_for_one_another(monkeypatch, 1, 1)
    keys = 2 * 2 * 2048 * 3 * 5
    assert largest(2048) == keys


def equations(jaxpr: Any) -> list[Any]:
    """Those of a computation and of the computations inside."""
    inner = [x for e in jaxpr.eqns for x in e.params.values() if hasattr(x, "jaxpr")]
    return [*jaxpr.eqns, *(e for x in inner for e in equations(x.jaxpr))]


@pytest.mark.parametrize("package", PACKAGES)
def test_what_no_neighbouring_block_holds_is_refused(package: str, rng: np.random.Generator):
    given = {name: tensor(package, x) for name, x in inputs(rng, 8).items()}
    q, k, v = (given[name] for name in "qkv")
    attend, own = operation(package, "attention.windowed.windowed_attention"), mask(package, 8, None, True)
    with pytest.raises(ValueError, match="sink_tokens=2"):
        attend(q, k, v, own, SCALE, window=3, sink_tokens=2)
    with pytest.raises(ValueError, match="5 queries and 8 keys"):
        attend(q[:, :5], k, v, own, SCALE, window=3)
