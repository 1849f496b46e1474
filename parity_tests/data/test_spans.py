"""Span corruption: nothing is lost, and the spans are as many and as long as was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_transformer.config import SpanCorruption
from jax_transformer.data.spans import cut_spans, noise_mask

FIRST = 9999
CORRUPTIONS = st.builds(SpanCorruption, noise_density=st.floats(0.01, 0.9), mean_span_length=st.floats(1, 20))


def restore(source: np.ndarray, target: np.ndarray, last: int) -> list[int]:
    """The text, from source and target alone; ids above ``last`` are sentinels."""
    spans: dict[int, list[int]] = {}
    for token in target.tolist():
        if token > last:
            spans[token] = []
        else:
            spans[next(reversed(spans))].append(token)
    return [token for piece in source.tolist() for token in (spans[piece] if piece > last else [piece])]


@given(st.integers(0, 300), CORRUPTIONS, st.integers(0, 10**6))
def test_source_and_target_give_the_text_back(length: int, c: SpanCorruption, seed: int) -> None:
    tokens = np.arange(length, dtype=np.int32) % 50
    source, target = cut_spans(tokens, noise_mask(length, c, np.random.default_rng(seed)), FIRST)
    assert restore(source, target, 50) == tokens.tolist()
    sentinels = target[target >= 50].tolist()
    assert sentinels == [FIRST - number for number in range(len(sentinels))]
    assert source[source >= 50].tolist() == sentinels[:-1], "the last ends the target"
    assert target[-1] == sentinels[-1]


@given(st.integers(2, 500), CORRUPTIONS, st.integers(0, 10**6))
def test_noise_has_the_counts_and_no_two_spans_touch(length: int, c: SpanCorruption, seed: int) -> None:
    noise = noise_mask(length, c, np.random.default_rng(seed))
    cut, spans = c.counts(length)
    assert noise.sum() == cut == min(max(round(length * c.noise_density), 1), length - 1)
    assert (np.diff(noise.astype(int)) == 1).sum() == spans
    assert not noise[0]
    assert noise[-1]
    assert spans == min(max(round(cut / c.mean_span_length), 1), cut, length - cut)


def test_every_arrangement_is_equally_likely(rng: np.random.Generator) -> None:
    c = SpanCorruption(noise_density=0.5, mean_span_length=2.0)  # of 8 tokens: 4 in 2 spans, 3 x 3 arrangements
    drawn = [tuple(noise_mask(8, c, rng).tolist()) for _ in range(9000)]
    counts = [drawn.count(arrangement) for arrangement in set(drawn)]
    assert len(counts) == 9
    assert max(abs(count - 1000) for count in counts) < 4 * 1000**0.5


@pytest.mark.parametrize("c", [SpanCorruption(), SpanCorruption(noise_density=0.5, mean_span_length=1.5)])
def test_spans_have_the_mean_length(c: SpanCorruption, rng: np.random.Generator) -> None:
    noise, spans = c.counts(10_000)
    assert abs(noise - 10_000 * c.noise_density) <= 0.5
    assert abs(spans - noise / c.mean_span_length) <= 0.5


@given(st.integers(2, 2000), CORRUPTIONS)
def test_the_text_of_a_row_is_the_longest_whose_source_fits(source_length: int, c: SpanCorruption) -> None:
    def sizes(length: int) -> tuple[int, int]:
        noise, spans = c.counts(length)
        return length - noise + spans, noise + spans + 1

    length = c.text_length(source_length)
    assert sizes(length)[0] <= source_length < sizes(length + 1)[0]
    assert all(sizes(shorter)[0] <= source_length for shorter in range(1, length))
    assert all(sizes(shorter)[1] <= c.target_length(source_length) for shorter in range(1, length)), "a short last row fits"
