"""Every form of attention makes the same model: logits and gradients, cached or not, at lengths of several blocks."""

from dataclasses import replace
from functools import cache
from typing import Any, get_args

import jax
import jax.numpy as jnp
import pytest

from jax_transformer import config as c
from jax_transformer.models import abstract_model
from jax_transformer.nn.attention import kernel
from jax_transformer.nn.params import param_specs, with_params
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.mask import causal_mask
from parity_tests.builders import attention, block, cross, decoder, encoder, encoder_decoder, mla, tower
from parity_tests.compare import compare_forward
from parity_tests.inputs import packed_batch, perturb, ragged_batch
from parity_tests.jax_side import UNOPTIMIZED, JaxSide
from parity_tests.jaxprs import largest_array
from parity_tests.measured import Forward, Hub
from parity_tests.tolerances import FLOAT64, relative_error
from torch_reference.nn.attention import kernel as torch_kernel

FLOAT = c.Dtype(param="float64", compute="float64", logits="float64")
LONG = 4096
T5 = c.T5Bias(num_buckets=8, max_distance=60)
NARROW = "windowed"


def mixers(form: c.Form, window: int | None = 20) -> list[c.Attention]:
    """Grouped heads, cap, sinks, both biases, latent and complex attention, behind windows; if there are none, chunks."""
    shape: dict[str, Any] = {"window": window, "implementation": form}
    return [
        attention(softcap=0.8, sink_logits=True, position=T5, **shape),
        attention(position=c.Alibi(), **shape),
        mla(**shape),
        c.Complex(num_heads=2, head_dim=4, **shape),
        *([attention(chunk_size=90, implementation=form)] if window is None else []),
    ]


def model(kind: str, form: c.Form) -> c.Model:
    """A model of every kind of attention in one form; cross-attention has no windows."""
    sizes: dict[str, Any] = {"max_length": LONG, "dtype": FLOAT}
    if kind == "decoder":
        return decoder(*(block(mixer) for mixer in mixers(form)), **sizes)
    if kind == "global":
        return decoder(*(block(mixer) for mixer in mixers(form, None)), **sizes)
    if kind == "encoder":
        return encoder(*(block(mixer) for mixer in mixers(form)), **sizes)
    across = cross(softcap=0.9, sink_logits=True, implementation="blockwise" if form == NARROW else form)
    halves = tower(block(mixers(form)[0])), tower(block(mixers(form)[1], cross_attention=across))
    return encoder_decoder(*halves, max_source_length=LONG, **sizes)


@cache
def side(kind: str, form: c.Form) -> JaxSide:
    return JaxSide(model(kind, form), UNOPTIMIZED)


@cache
def weights(kind: str) -> Hub:
    return perturb({name: shape for name, (shape, _) in side(kind, "reference").structure().items()}, 0)


@cache
def answers(kind: str, form: c.Form, length: int) -> Forward:
    """Taps, loss and gradients of packed rows; the probabilities, which only the reference has, are left out."""
    result = side(kind, form).forward(weights(kind), packed_batch(model(kind, form), 3, length))
    assert any(name.endswith("probabilities") for name in result.taps) == (form == "reference")
    return replace(result, taps={name: tap for name, tap in result.taps.items() if not name.endswith("probabilities")})


@pytest.mark.parametrize(
    ("kind", "form", "length"),
    [
        ("decoder", "blockwise", 300),
        ("decoder", "windowed", 300),
        ("decoder", "windowed", 70),
        ("global", "blockwise", 300),
        ("encoder", "blockwise", 300),
        ("encoder", "windowed", 300),
        ("encoder_decoder", "blockwise", 300),
    ],
)
def test_a_model_is_the_same_in_every_form(kind: str, form: c.Form, length: int) -> None:
    want, got = (answers(kind, own, length) for own in ("reference", form))
    rows = [row for row in compare_forward("float64", want, got) if not row.passed]
    assert not rows


def test_auto_is_the_same_where_it_chooses_another_form(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    choice = kernel._choice
    monkeypatch.setattr(kernel, "_choice", lambda *task: chosen.append(choice(*task)) or chosen[-1])
    for kind, form in (("decoder", "windowed"), ("global", "blockwise")):
        given = packed_batch(model(kind, "auto"), 3, 520)
        want, got = (side(kind, own).plain_logits(weights(kind), given) for own in ("reference", "auto"))
        assert relative_error(got, want) < FLOAT64
        assert chosen == [form] * len(model(kind, form).stack.pattern)
        chosen.clear()


@pytest.mark.parametrize("form", ["blockwise", "windowed", "splash", "cudnn"])
def test_a_cached_model_is_the_same_in_every_form(form: c.Form) -> None:
    # Kernels do not run here: among remembered keys, blocks take their place.
    mixer = attention(window=3, head_dim=8)
    configs = [decoder(block(mixer.model_copy(update={"implementation": own})), dtype=FLOAT) for own in ("reference", form)]
    batch = ragged_batch(configs[0], 2)
    sides = [JaxSide(own, UNOPTIMIZED) for own in configs]
    given = perturb({name: shape for name, (shape, _) in sides[0].structure().items()}, 0)
    want, got = (own.decode(given, batch, 4).logits for own in sides)
    assert relative_error(got[batch.real], want[batch.real]) < FLOAT64


def largest_of_a_step(config: c.Model, length: int) -> int:
    """Elements of the largest array of a forward and backward pass over one row of tokens, without taps."""
    skeleton = abstract_model(config)
    given = [jax.ShapeDtypeStruct((1, length), jnp.int32)] * 2

    def loss(params: dict[str, jax.Array], tokens: jax.Array, segments: jax.Array) -> jax.Array:
        logits, _ = with_params(skeleton, params)(tokens, segments=segments)
        return jnp.sum(jnp.sin(logits))

    params = {name: jax.ShapeDtypeStruct(spec.shape, spec.dtype) for name, spec in param_specs(skeleton).items()}
    return largest_array(jax.grad(loss), params, *given)


@pytest.mark.parametrize("kind", ["decoder", "global", "encoder"])
def test_memory_grows_with_the_length_and_only_the_reference_s_with_its_square(kind: str) -> None:
    forms: list[c.Form] = ["auto", "blockwise"] + (["windowed"] if kind != "global" else [])
    for form in forms:
        short, long = (largest_of_a_step(model(kind, form), length) for length in (LONG // 2, LONG))
        assert long <= 2 * short, form
        assert long < LONG**2 / 2, form
    short, long = (largest_of_a_step(model(kind, "reference"), length) for length in (LONG // 2, LONG))
    assert long > 3 * short
    assert long >= LONG**2


def task(mixer: c.Softmax, **given: Any) -> Any:
    usual: dict[str, Any] = {"tap": SILENT, "noise": None, "cached": False}
    return kernel._Task(mixer, mask=causal_mask(1), bias=None, sinks=None, **usual | given)


@pytest.mark.parametrize(
    ("fields", "given", "length", "form"),
    [
        ({}, {}, 511, "reference"),
        ({}, {}, 512, "blockwise"),
        ({}, {"cached": True}, 512, "blockwise"),
        ({}, {"tap": Tap({})}, 512, "reference"),
        ({"dropout": 0.1}, {}, 512, "blockwise"),
        ({"dropout": 0.1}, {"noise": Noise(jax.random.key(0))}, 512, "reference"),
        ({}, {"noise": Noise(jax.random.key(0))}, 512, "blockwise"),
        ({"window": 64}, {}, 256, "windowed"),
        ({"window": 65}, {}, 256, "reference"),
        ({"window": 10}, {}, 255, "reference"),
        ({"window": 128}, {}, 512, "windowed"),
        ({"window": 129}, {}, 2048, "blockwise"),
        ({"window": 64, "sink_tokens": 1}, {}, 2048, "blockwise"),
        ({"window": 64}, {"cached": True}, 2048, "blockwise"),
        ({"chunk_size": 64}, {}, 256, "reference"),
        ({"chunk_size": 64}, {}, 512, "blockwise"),
    ],
)
def test_auto_chooses_by_what_is_asked_and_by_length(fields: dict, given: dict, length: int, form: str) -> None:
    assert kernel._choice(task(attention(**fields), **given), length, length) == form


def test_auto_counts_pairs_of_queries_and_remembered_keys() -> None:
    remembered = task(attention(), cached=True)
    assert [kernel._choice(remembered, 1, keys) for keys in (512, 100_000, 300_000)] == ["reference", "reference", "blockwise"]


def test_both_packages_have_every_form() -> None:
    assert list(kernel.FORMS) == list(torch_kernel.FORMS) == list(get_args(c.Form))
