"""Span corruption: stretches of text cut out, a sentinel in place of each."""

import numpy as np
from jaxtyping import Bool, Int, Int32

from jax_transformer.config import SpanCorruption


def noise_mask(length: int, c: SpanCorruption, generator: np.random.Generator) -> Bool[np.ndarray, " length"]:
    """True where a token is cut out: ``c.counts(length)`` tokens and stretches, every arrangement equally likely.

    A stretch that stays comes first and one that is cut out last, as in T5.
    """
    noise, spans = c.counts(length)
    if spans == 0:  # a text of one token, of which nothing can be cut out
        return np.zeros(length, bool)
    kept, cut = (_random_lengths(total, spans, generator) for total in (length - noise, noise))
    return np.repeat(np.arange(2 * spans) % 2 == 1, np.stack([kept, cut], axis=1).reshape(-1))


def cut_spans(
    tokens: Int32[np.ndarray, " length"], noise: Bool[np.ndarray, " length"], first_sentinel: int
) -> tuple[Int32[np.ndarray, " source"], Int32[np.ndarray, " target"]]:
    """``tokens`` with sentinel ``first_sentinel - i`` in place of stretch i; and each sentinel with the stretch that it stands
    for, ended by the sentinel after the last one.
    """
    starts = noise & ~np.concatenate([[False], noise[:-1]])
    sentinels = first_sentinel - np.arange(np.count_nonzero(starts) + 1)
    source = tokens.copy()
    source[starts] = sentinels[:-1]
    target = np.insert(tokens[noise], np.flatnonzero(starts[noise]), sentinels[:-1])
    return source[starts | ~noise], np.append(target, sentinels[-1]).astype(np.int32)


def _random_lengths(total: int, parts: int, generator: np.random.Generator) -> Int[np.ndarray, " parts"]:
    """``parts`` positive lengths that add up to ``total``, every such list equally likely."""
    cuts = np.sort(generator.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))
