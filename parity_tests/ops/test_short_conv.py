"""The short causal convolution: torch's own, over the columns of one's own segment."""

import numpy as np
import pytest
import torch
from transformers.models.qwen3_next.modeling_qwen3_next import causal_conv1d_fn, causal_conv1d_update

from parity_tests.ops.pairs import PACKAGES
from parity_tests.ops.sequences import agreed_results, cut, packed, run
from parity_tests.tolerances import HALF_BFLOAT16, OPERATION

CONV = "delta_rule.short_conv.short_conv"
CHANNELS, WIDTH = 5, 4


def draw(rng: np.random.Generator, length: int, width: int = WIDTH, batch: int = 4) -> dict[str, np.ndarray]:
    return {"x": rng.normal(size=(batch, length, CHANNELS)), "weight": rng.normal(size=(CHANNELS, width))}


def own(segments: np.ndarray, row: int, t: int) -> list[int]:
    """The tokens up to ``t`` of its segment, oldest first."""
    return [s for s in range(t + 1) if segments[row, s] == segments[row, t]]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("width", [1, 2, WIDTH])
def test_it_is_the_convolution_of_torch_then_silu(width: int, length: int, rng: np.random.Generator):
    arrays = draw(rng, length, width)
    x, weight = torch.tensor(arrays["x"]).mT, torch.tensor(arrays["weight"])
    conv = torch.nn.functional.conv1d(x, weight[:, None], padding=width - 1, groups=CHANNELS)[..., :length]
    want = torch.nn.functional.silu(conv).mT.numpy()
    out, state = agreed_results(CONV, arrays).outputs
    np.testing.assert_allclose(out, want, **OPERATION)
    np.testing.assert_allclose(out, causal_conv1d_fn(x, weight, activation="silu").mT.numpy(), **OPERATION)
    columns = np.concatenate([np.zeros((4, width - 1, CHANNELS)), arrays["x"]], axis=1)
    np.testing.assert_array_equal(state, columns[:, length:])


@pytest.mark.parametrize("length", [1, 2, 13])
def test_a_column_of_another_segment_counts_as_zeros(length: int, rng: np.random.Generator):
    arrays, segments = draw(rng, length), packed(length)
    past = rng.normal(size=(4, WIDTH - 1, CHANNELS))
    out, state = agreed_results(CONV, arrays | {"state": past}, segments=segments).outputs
    x, weight = arrays["x"], arrays["weight"]
    for b in range(4):
        real = np.flatnonzero(segments[b])
        for t in range(length):
            columns = x[b, own(segments, b, t)]
            if real.size and segments[b, t] == segments[b, real[0]]:
                columns = np.concatenate([past[b], columns])
            window = np.concatenate([np.zeros((WIDTH, CHANNELS)), columns])[-WIDTH:]
            total = (weight.T * window).sum(0)
            want = total / (1 + np.exp(-total)) if segments[b, t] else np.zeros(CHANNELS)
            np.testing.assert_allclose(out[b, t], want, **OPERATION)
            if [t] == list(real[-1:]):
                np.testing.assert_array_equal(state[b], window[1:])
        if not real.size:
            np.testing.assert_array_equal(state[b], past[b])


@pytest.mark.parametrize("package", PACKAGES)
def test_a_text_in_pieces_is_the_whole_text(package: str, rng: np.random.Generator):
    arrays, segments = draw(rng, 9, batch=3), np.array([[0, 0, 0, 1, 1, 1, 1, 1, 0], [1] * 9, [1, 1, 2, 2, 2, 2, 2, 2, 2]])
    x, weight = {"x": arrays["x"]}, {"weight": arrays["weight"]}
    whole, last = run(package, CONV, arrays, segments=segments)
    for ends in ((4, 9), (5, 6, 9), (3, 8, 9), range(3, 10)):
        pieces, state, start = [], {}, 0
        for end in ends:
            given = cut(x, slice(start, end)) | weight | state
            piece, after = run(package, CONV, given, segments=segments[:, start:end])
            pieces.append(piece)
            start, state = end, {"state": after}
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, **OPERATION)
        np.testing.assert_array_equal(state["state"], last)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_decoding_step_is_that_of_transformers(package: str, rng: np.random.Generator):
    arrays, past = draw(rng, 1), rng.normal(size=(4, WIDTH - 1, CHANNELS))
    out, state = run(package, CONV, arrays | {"state": past})
    window = torch.tensor(past).mT.contiguous()
    want = causal_conv1d_update(torch.tensor(arrays["x"]).mT, window, torch.tensor(arrays["weight"]), activation="silu")
    np.testing.assert_allclose(out, want.mT.numpy(), **OPERATION)
    np.testing.assert_array_equal(state, window.mT.numpy())


def test_padding_adds_nothing_and_gets_zeros(rng: np.random.Generator):
    arrays, segments = draw(rng, 13), packed(13)
    hidden = segments == 0
    garbage = arrays | {"x": np.where(hidden[:, :, None], 1e3, arrays["x"])}
    got, want = (agreed_results(CONV, x, segments=segments) for x in (garbage, arrays))
    for mine, other in zip((*got.outputs, *got.gradients), (*want.outputs, *want.gradients), strict=True):
        np.testing.assert_allclose(mine, other, **OPERATION)
    assert not got.outputs[0][hidden].any()
    assert not got.gradients[1][hidden].any()


def test_padding_inside_a_segment_counts_as_zeros(rng: np.random.Generator):
    arrays, segments = draw(rng, 9, batch=1), np.array([[1, 1, 1, 0, 1, 0, 0, 1, 1]])
    emptied = arrays | {"x": np.where(segments[:, :, None], arrays["x"], 0.0)}
    want, columns = run("jax_transformer", CONV, emptied)
    out, state = agreed_results(CONV, arrays, segments=segments).outputs
    np.testing.assert_allclose(out, np.where(segments[:, :, None], want, 0.0), **OPERATION)
    np.testing.assert_array_equal(state, columns)


@pytest.mark.parametrize("package", PACKAGES)
def test_bfloat16_is_added_up_in_float32(package: str):
    # In bfloat16, 256 + 1 is 256, and 256 + 1 - 256 nothing.
    x, weight = np.array([256.0, 1.0, -256.0]).reshape(1, 3, 1), np.ones((1, 3))
    out, _ = run(package, CONV, {"x": x, "weight": weight}, dtype="bfloat16")
    np.testing.assert_allclose(out[0, 2, 0], 1 / (1 + np.exp(-1)), rtol=HALF_BFLOAT16)
