"""Linear attention: three forms of one function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_transformer.ops import mask
from parity_tests.ops.pairs import PACKAGES, agreed, array, operation, tensor
from parity_tests.ops.sequences import LENGTHS, agreed_results, assert_close, cut, packed, results, run
from parity_tests.tolerances import FLOAT32_OPERATION, OPERATION

DEFINITION = "linear_attention.reference.linear_attention"
RECURRENT = "linear_attention.recurrent.recurrent_linear_attention"
CHUNKED = "linear_attention.chunked.chunked_linear_attention"
BIDIRECTIONAL = "linear_attention.chunked.chunked_bidirectional_linear_attention"

HEADS, KV_HEADS, HEAD_DIM, V_DIM = 6, 2, 3, 5


def draw(rng: np.random.Generator, length: int, batch: int = 4) -> dict[str, np.ndarray]:
    widths = {"q": (HEADS, HEAD_DIM), "k": (KV_HEADS, HEAD_DIM), "v": (KV_HEADS, V_DIM)}
    return {name: rng.normal(size=(batch, length, *width)) for name, width in widths.items()}


def draw_state(rng: np.random.Generator, batch: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Of earlier tokens, whose weights are positive."""
    return rng.normal(size=(batch, KV_HEADS, HEAD_DIM, V_DIM)), rng.uniform(1, 2, size=(batch, KV_HEADS, HEAD_DIM))


def allowed(segments: np.ndarray, causal: bool) -> np.ndarray:
    build = mask.causal_mask if causal else mask.bidirectional_mask
    return np.asarray(build(segments.shape[1], jnp.asarray(segments)).allowed())


@pytest.mark.parametrize("causal", [True, False])
def test_the_definition_is_a_weighted_mean(causal: bool, rng: np.random.Generator):
    arrays, segments = draw(rng, 9), packed(9)
    seen, got = allowed(segments, causal), agreed(DEFINITION, *arrays.values(), allowed(segments, causal), 0.1)
    phi_q, phi_k = (np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (arrays["q"], arrays["k"]))
    for b, t, n in np.ndindex(4, 9, HEADS):
        keys = [s for s in range(9) if segments[b, s] == segments[b, t] != 0 and (s <= t or not causal)]
        assert keys == list(np.flatnonzero(seen[b, t]))
        weights = phi_k[b, keys, n // 3] @ phi_q[b, t, n]
        np.testing.assert_allclose(got[b, t, n], weights @ arrays["v"][b, keys, n // 3] / (weights.sum() + 0.1), **OPERATION)


@pytest.mark.parametrize(("length", "chunk"), LENGTHS)
def test_every_causal_form_is_the_definition(length: int, chunk: int, rng: np.random.Generator):
    arrays, segments = draw(rng, length), packed(length)
    want = agreed_results(DEFINITION, arrays, allowed=allowed(segments, causal=True))
    for package in PACKAGES:
        for path, options in ((RECURRENT, {}), (CHUNKED, {"chunk": chunk})):
            assert_close(results(package, path, arrays, only_first=True, segments=segments, **options), want)


@pytest.mark.parametrize(("length", "chunk"), LENGTHS)
def test_the_bidirectional_form_is_the_definition(length: int, chunk: int, rng: np.random.Generator):
    arrays, segments = draw(rng, length), packed(length)
    want = agreed_results(DEFINITION, arrays, allowed=allowed(segments, causal=False))
    for package in PACKAGES:
        assert_close(results(package, BIDIRECTIONAL, arrays, segments=segments, chunk=chunk), want)


@pytest.mark.parametrize("path", [CHUNKED, BIDIRECTIONAL])
def test_no_segments_are_one_segment(path: str, rng: np.random.Generator):
    arrays = draw(rng, 13)
    whole = agreed_results(path, arrays, segments=np.ones((4, 13), int), chunk=4)
    assert_close(agreed_results(path, arrays, chunk=4), whole)


@pytest.mark.parametrize("segmented", [True, False])
def test_chunks_leave_the_state_that_tokens_leave(segmented: bool, rng: np.random.Generator):
    arrays = draw(rng, 13) | {"state": draw_state(rng)}
    segments = packed(13) if segmented else None
    got, want = (
        agreed_results(CHUNKED, arrays, segments=segments, chunk=4),
        agreed_results(RECURRENT, arrays, segments=segments),
    )
    assert_close(got, want)
    if segmented:
        for after, before in zip(got.outputs[1:], arrays["state"], strict=True):
            np.testing.assert_array_equal(after[3], before[3])


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("path", [CHUNKED, RECURRENT])
def test_a_text_in_pieces_is_the_whole_text(path: str, package: str, rng: np.random.Generator):
    # A segment's number may go on in the next piece; where it changes between pieces, the caller empties the state.
    arrays, segments = draw(rng, 9), np.array([[0, 0, 1, 1, 1, 1, 1, 1, 0]] * 3 + [[1, 1, 2, 2, 2, 2, 2, 2, 2]])
    out, *want = run(package, path, arrays, segments=segments)
    for ends in ((4, 9), (5, 6, 9), (3, 4, 5, 6, 7, 8, 9)):
        pieces, state, start = [], None, 0
        for end in ends:
            given = cut(arrays, slice(start, end)) | ({} if state is None else {"state": tuple(state)})
            piece, *state = run(package, path, given, segments=segments[:, start:end])
            pieces.append(piece)
            start = end
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), out, **OPERATION)
        for mine, other in zip(state, want, strict=True):
            np.testing.assert_allclose(mine, other, **OPERATION)


@pytest.mark.parametrize("path", [CHUNKED, RECURRENT, BIDIRECTIONAL])
def test_padding_adds_nothing_and_gets_zeros(path: str, rng: np.random.Generator):
    arrays, segments = draw(rng, 13), packed(13)
    hidden = segments == 0
    garbage = {name: np.where(hidden[:, :, None, None], 1e3, x) for name, x in arrays.items()}
    got, want = (agreed_results(path, x, segments=segments) for x in (garbage, arrays))
    assert_close(got, want)
    assert not got.outputs[0][hidden].any()
    assert np.abs(got.outputs[0][~hidden]).min(-1).min() > 0
    assert not any(gradient[hidden].any() for gradient in got.gradients)


@pytest.mark.parametrize("path", [CHUNKED, BIDIRECTIONAL])
def test_packed_segments_are_texts_of_their_own(path: str, rng: np.random.Generator):
    arrays, segments = draw(rng, 13, batch=1), np.array([[1] * 5 + [0] * 2 + [2] * 6])
    out = run("jax_transformer", path, arrays, segments=segments, chunk=4)[0]
    for part in (slice(0, 5), slice(7, 13)):
        np.testing.assert_allclose(out[:, part], run("jax_transformer", path, cut(arrays, part), chunk=4)[0], **OPERATION)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_feature_map_keeps_its_digits_and_its_slope(package: str):
    x = np.array([-80.0, -30.0, -1.0, 0.0, 2.0])
    function = operation(package, "linear_attention.reference.feature_map")
    got = array(function(tensor(package, x, "float32")))
    np.testing.assert_allclose(got, np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))), **FLOAT32_OPERATION)
    if package == "jax_transformer":
        slopes = jax.vmap(jax.grad(function))(jnp.asarray(np.append(x, 1e4)))
    else:
        leaf = torch.tensor(np.append(x, 1e4), requires_grad=True)
        (slopes,) = torch.autograd.grad(function(leaf).sum(), leaf)
    np.testing.assert_allclose(np.asarray(slopes), np.append(np.exp(np.minimum(x, 0)), 1.0), **OPERATION)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("path", [CHUNKED, RECURRENT])
def test_bfloat16_is_added_up_in_float32(path: str, package: str):
    # 301 keys of weight 1: in bfloat16 a sum of ones stays at 256, and 301 is 300 or 302.
    ones = {"q": np.zeros((1, 301, 1, 1)), "k": np.zeros((1, 301, 1, 1)), "v": np.ones((1, 301, 1, 1))}
    out, sums, norms = run(package, path, ones, dtype="bfloat16")
    assert sums.item() == norms.item() == 301
    np.testing.assert_array_equal(out, 1.0)
