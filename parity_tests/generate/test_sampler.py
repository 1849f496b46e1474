"""Draws follow the filtered odds, along rows and along steps, and depend on seed, row and step only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_transformer.config import Sampling
from jax_transformer.generate.sampler import next_tokens
from parity_tests.generate.sides import side

LOGITS = np.array([0.3, 1.7, -0.4, 1.7, 0.9, -2.0, 0.0, 1.1])
DRAWS = 6000
SETTINGS = [
    Sampling(seed=1),
    Sampling(temperature=2.0, top_k=3, seed=3),
    Sampling(temperature=1.3, top_k=6, top_p=0.8, seed=5),
]
FRAMEWORKS = pytest.mark.parametrize("framework", ["jax", "torch"])


def probabilities(settings: Sampling) -> np.ndarray:
    """Odds of ``LOGITS`` from the definition."""
    ranked = np.argsort(-LOGITS, kind="stable")[: settings.top_k]
    p = np.exp(LOGITS[ranked] / settings.temperature)
    p = p / p.sum()
    if settings.top_p is not None:
        count = int(np.searchsorted(np.cumsum(p), settings.top_p)) + 1
        ranked, p = ranked[:count], p[:count] / p[:count].sum()
    odds = np.zeros_like(LOGITS)
    odds[ranked] = p
    return odds


def assert_follows(tokens: np.ndarray, settings: Sampling) -> None:
    """Chi-square within five deviations of its mean; tokens that may not be drawn never are."""
    odds = probabilities(settings)
    counts = np.bincount(tokens, minlength=len(LOGITS))
    assert not counts[odds == 0].any()
    expected = odds[odds > 0] * len(tokens)
    freedom = len(expected) - 1
    assert ((counts[odds > 0] - expected) ** 2 / expected).sum() < freedom + 5 * (2 * freedom) ** 0.5


@FRAMEWORKS
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_rows_follow_the_odds(framework, settings):
    tokens = side(framework).draw(np.tile(LOGITS, (DRAWS, 1)), settings, settings.seed, 0)
    assert_follows(tokens, settings)


def test_steps_follow_the_odds_in_jax():
    settings = SETTINGS[-1]
    draw = jax.jit(jax.vmap(lambda step: next_tokens(jnp.asarray(LOGITS)[None], settings, settings.seed, step)[0]))
    assert_follows(np.asarray(draw(jnp.arange(DRAWS))), settings)


def test_steps_follow_the_odds_in_torch():
    settings, draw = SETTINGS[-1], side("torch").draw
    assert_follows(np.concatenate([draw(LOGITS[None], settings, settings.seed, step) for step in range(DRAWS // 4)]), settings)


@FRAMEWORKS
def test_a_draw_depends_on_seed_row_and_step_only(framework):
    draw, settings = side(framework).draw, Sampling()
    rows = np.tile(LOGITS, (20, 1))
    first = draw(rows, settings, 7, 4)
    rows[10:] = -rows[10:]
    assert first[:10].tolist() == draw(rows, settings, 7, 4)[:10].tolist()
    rows[10:] = -rows[10:]
    for other in (draw(rows, settings, 8, 4), draw(rows, settings, 7, 5), np.roll(first, 1)):
        assert first.tolist() != other.tolist()
    # Neighbouring seeds share no rows or steps.
    assert draw(rows, settings, 8, 4)[:-1].tolist() != first[1:].tolist()
    assert draw(rows, settings, 8, 3).tolist() != first.tolist()


@FRAMEWORKS
def test_greedy_takes_the_lowest_of_equal_ids(framework):
    logits = np.array([[0.0, 2.0, 2.0, 1.0], [5.0, 5.0, 5.0, 5.0], [-1.0, -2.0, -3.0, -1.0]])
    assert side(framework).draw(logits, Sampling(temperature=0.0), 0, 0).tolist() == [1, 0, 0]
    assert side(framework).draw(logits, Sampling(top_k=1), 0, 0).tolist() == [1, 0, 0]
