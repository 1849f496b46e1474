"""The gated delta rule: the recurrence that defines it, and the chunked form at any decay."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.qwen3_next import modeling_qwen3_next

from parity_tests.ops.pairs import PACKAGES, call
from parity_tests.ops.sequences import LENGTHS, agreed_results, assert_close, cut, packed, results, run
from parity_tests.tolerances import FLOAT32_MODULE, FLOAT32_OPERATION, HALF_BFLOAT16, KERNEL, OPERATION, relative_error

RECURRENT = "delta_rule.recurrent.recurrent_delta_rule"
CHUNKED = "delta_rule.chunked.chunked_delta_rule"

HEADS, KEY_HEADS, KEY_DIM, V_DIM = 4, 2, 3, 5


def draw(rng: np.random.Generator, length: int, batch: int = 4, key_dim: int = KEY_DIM) -> dict[str, np.ndarray]:
    """Keys and queries of unit length, decays from weak to strong, and rates up to 2."""
    q, k = rng.normal(size=(2, batch, length, KEY_HEADS, key_dim))
    gates = {"log_decay": -rng.exponential(size=(batch, length, HEADS)), "beta": rng.uniform(0, 2, size=(batch, length, HEADS))}
    unit = {name: x / np.linalg.norm(x, axis=-1, keepdims=True) for name, x in (("q", q), ("k", k))}
    return unit | {"v": rng.normal(size=(batch, length, HEADS, V_DIM))} | gates


def draw_state(rng: np.random.Generator, batch: int = 4) -> np.ndarray:
    return rng.normal(size=(batch, HEADS, KEY_DIM, V_DIM))


def by_definition(arrays: dict[str, np.ndarray], segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Token by token and head by head; the state is that of the last token's segment."""
    q, k, v, log_decay, beta = (arrays[name] for name in ("q", "k", "v", "log_decay", "beta"))
    out, last = np.zeros_like(v), arrays["state"].copy()
    for b, n in np.ndindex(len(v), HEADS):
        state, segment = last[b, n], None
        for t in np.flatnonzero(segments[b]):
            state = np.zeros_like(state) if segment not in (None, segments[b, t]) else state
            segment, key = segments[b, t], k[b, t, n // (HEADS // KEY_HEADS)]
            state = state * np.exp(log_decay[b, t, n])
            state = state + np.outer(key, beta[b, t, n] * (v[b, t, n] - state.T @ key))
            out[b, t, n] = state.T @ q[b, t, n // (HEADS // KEY_HEADS)] / np.sqrt(KEY_DIM)
        last[b, n] = state
    return out, last


@pytest.mark.parametrize("length", [1, 13])
def test_the_recurrence_is_the_definition(length: int, rng: np.random.Generator):
    arrays, segments = draw(rng, length) | {"state": draw_state(rng)}, packed(length)
    got, want = agreed_results(RECURRENT, arrays, segments=segments).outputs, by_definition(arrays, segments)
    for mine, definition in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, definition, **OPERATION)


@pytest.mark.parametrize(("length", "chunk"), LENGTHS)
@pytest.mark.parametrize("segmented", [True, False])
def test_the_chunked_form_is_the_recurrence(segmented: bool, length: int, chunk: int, rng: np.random.Generator):
    arrays, segments = draw(rng, length), packed(length) if segmented else None
    arrays = arrays | ({"state": draw_state(rng)} if segmented else {})
    want = agreed_results(RECURRENT, arrays, segments=segments)
    for package in PACKAGES:
        assert_close(results(package, CHUNKED, arrays, segments=segments, chunk=chunk), want)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("path", [CHUNKED, RECURRENT])
def test_a_text_in_pieces_is_the_whole_text(path: str, package: str, rng: np.random.Generator):
    arrays, segments = draw(rng, 9), np.array([[0, 0, 1, 1, 1, 1, 1, 1, 0]] * 3 + [[1, 1, 2, 2, 2, 2, 2, 2, 2]])
    whole, last = run(package, path, arrays, segments=segments)
    for ends in ((4, 9), (5, 6, 9), range(3, 10)):
        pieces, state, start = [], {}, 0
        for end in ends:
            given = cut(arrays, slice(start, end)) | state
            piece, after = run(package, path, given, segments=segments[:, start:end])
            pieces.append(piece)
            start, state = end, {"state": after}
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, **OPERATION)
        np.testing.assert_allclose(state["state"], last, **OPERATION)


@pytest.mark.parametrize("path", [CHUNKED, RECURRENT])
def test_padding_leaves_the_state_alone_and_gets_zeros(path: str, rng: np.random.Generator):
    arrays, segments = draw(rng, 13) | {"state": draw_state(rng)}, packed(13)
    hidden = segments == 0
    garbage = {n: x if n == "state" else np.where(hidden[(...,) + (None,) * (x.ndim - 2)], -7.0, x) for n, x in arrays.items()}
    got, want = (agreed_results(path, x, segments=segments) for x in (garbage, arrays))
    assert_close(got, want)
    assert not got.outputs[0][hidden].any()
    np.testing.assert_array_equal(got.outputs[1][3], arrays["state"][3])
    assert not any(gradient[hidden].any() for gradient in got.gradients if gradient.shape[1] == 13)


@pytest.mark.parametrize("package", PACKAGES)
def test_packed_segments_are_texts_of_their_own(package: str, rng: np.random.Generator):
    arrays, segments = draw(rng, 13, batch=1), np.array([[1] * 5 + [0] * 2 + [2] * 6])
    out, state = run(package, CHUNKED, arrays, segments=segments, chunk=4)
    for part in (slice(0, 5), slice(7, 13)):
        alone, after = run(package, CHUNKED, cut(arrays, part), chunk=4)
        np.testing.assert_allclose(out[:, part], alone, **OPERATION)
    np.testing.assert_allclose(state, after, **OPERATION)


def mixed_decays(rng: np.random.Generator, shape: tuple[int, ...], strong: float) -> np.ndarray:
    """Most leave nearly everything, every fourth next to nothing."""
    return np.where(rng.random(shape) < 0.25, strong, -1e-6)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("path", [CHUNKED, RECURRENT])
@pytest.mark.parametrize("decay", [-50.0, -1e-6, "mixed"])
def test_float32_keeps_its_digits_at_any_decay(decay: Any, path: str, package: str, rng: np.random.Generator):
    arrays = draw(rng, 130, batch=1, key_dim=16)
    shape = arrays["beta"].shape
    given = mixed_decays(rng, shape, -50.37) if decay == "mixed" else np.full(shape, decay)
    arrays = arrays | {"log_decay": given.astype(np.float32).astype(float), "beta": arrays["beta"] / 2}
    for mine, exact in zip(run(package, path, arrays, dtype="float32"), run(package, RECURRENT, arrays), strict=True):
        assert mine.dtype == np.float32
        assert relative_error(mine, exact) <= KERNEL["float32"]


@pytest.mark.parametrize("strong", [-50.0, -5e4, -np.inf])
def test_strong_decays_forget_with_finite_gradients(strong: float, rng: np.random.Generator):
    arrays = draw(rng, 70)
    arrays = arrays | {"log_decay": mixed_decays(rng, arrays["beta"].shape, strong), "state": draw_state(rng)}
    assert_close(agreed_results(CHUNKED, arrays), agreed_results(RECURRENT, arrays))


@pytest.mark.parametrize("package", PACKAGES)
def test_one_key_over_and_over_is_solved_accurately(package: str):
    # The system is full of ones, and a sum of its powers would have terms of 1e18 that cancel.
    ones = np.ones((1, 64, 1, 1))
    arrays = {"q": ones, "k": ones, "v": np.arange(64.0).reshape(1, 64, 1, 1), "log_decay": 0 * ones[..., 0]}
    out, _ = run(package, CHUNKED, arrays | {"beta": ones[..., 0]}, dtype="float32")
    np.testing.assert_allclose(out, arrays["v"], **FLOAT32_OPERATION)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("path", [CHUNKED, RECURRENT])
def test_it_is_that_of_qwen3_next(path: str, package: str, rng: np.random.Generator):
    arrays = draw(rng, 70) | {"state": draw_state(rng)}
    q, k = rng.normal(size=(2, *arrays["q"].shape))
    unit = {name: call(package, "norm.l2_norm", x, 1e-6, dtype="float32") for name, x in (("q", q), ("k", k))}
    got = run(package, path, arrays | unit, dtype="float32")
    tensors = (torch.tensor(x, dtype=torch.float32) for x in (q, k, *(arrays[n] for n in ("v", "log_decay", "beta", "state"))))
    *given, state = tensors
    options = {"initial_state": state, "output_final_state": True, "use_qk_l2norm_in_kernel": True}
    for name in ("torch_recurrent_gated_delta_rule", "torch_chunk_gated_delta_rule"):
        for mine, other in zip(got, getattr(modeling_qwen3_next, name)(*given, **options), strict=True):
            np.testing.assert_allclose(mine, other.numpy(), **FLOAT32_MODULE)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("path", [CHUNKED, RECURRENT])
def test_bfloat16_is_added_up_in_float32(path: str, package: str):
    # Steps of 1/512 beside a state of 1 are lost in bfloat16.
    length = 5
    arrays = {"q": np.ones((1, length, 1, 1)), "k": np.ones((1, length, 1, 1)), "log_decay": np.zeros((1, length, 1))}
    values = {"v": np.array([1.0, 2, 2, 2, 2]).reshape(1, length, 1, 1), "beta": np.array([[[1.0]] + [[2.0**-9]] * 4])}
    out, state = run(package, path, arrays | values, dtype="bfloat16")
    np.testing.assert_allclose(state.item(), 2 - (1 - 2.0**-9) ** 4, **FLOAT32_OPERATION)
    np.testing.assert_allclose(out[0, -1, 0, 0], state.item(), rtol=HALF_BFLOAT16)
