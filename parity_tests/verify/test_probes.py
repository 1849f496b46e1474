"""The questions of a verification reach beyond what they are named for, or say that they do not."""

import numpy as np
import pytest

from jax_transformer import config as c
from jax_transformer.verify.probes import decoding_probe, make_probes, read_at_once
from parity_tests.builders import attention, block, cross, decoder, encoder, encoder_decoder, tower

LLAMA3 = c.Rope(scaling=c.Llama3Scaling(factor=8.0, original_length=100))
LONG = decoder(block(attention(window=30)), block(attention(window=60, position=LLAMA3)), max_length=500)


def test_rows_are_longer_than_the_smallest_window_and_the_original_context():
    short, window, context = make_probes(LONG, 1000, (), 0)
    assert short.length < 30 < window.length < 60
    assert context.length > 100
    assert not any(probe.note for probe in (short, window, context))


@pytest.mark.parametrize(("config", "longest"), [(LONG, 50), (LONG.model_copy(update={"max_length": 50}), 1000)])
def test_a_length_that_is_not_reached_is_noted(config: c.Decoder, longest: int):
    _, window, context = make_probes(config, longest, (), 0)
    assert (window.length, context.length) == (34, 50)
    assert (window.note, context.note) == ("", "104 tokens wanted, at most 50 possible")


def test_a_model_without_window_or_context_says_so():
    _, window, context = make_probes(decoder(block()), 1000, (), 0)
    assert (window.note, context.note) == ("no window", "no original context")


def test_ids_are_all_over_the_vocabulary_but_for_those_to_avoid():
    ids = np.concatenate([probe.inputs["tokens"].ravel() for probe in make_probes(LONG, 1000, (1, 4), 0)])
    assert set(ids.tolist()) == set(range(LONG.vocab_size)) - {1, 4}


def test_every_input_of_an_architecture_is_drawn():
    pair = encoder_decoder(tower(block()), tower(block(cross_attention=cross())))
    for probe in make_probes(pair, 1000, (), 0):
        assert probe.inputs["source"].shape[1] <= pair.max_source_length
        assert probe.inputs["source"].shape != probe.inputs["tokens"].shape
    typed = encoder(block(), embedding=c.Embedding(num_token_types=2))
    assert all(probe.inputs["token_types"].shape == probe.inputs["tokens"].shape for probe in make_probes(typed, 1000, (), 0))


def test_a_cache_reads_no_further_than_rotations_stay_as_they_are():
    dynamic = c.Rope(scaling=c.DynamicNtkScaling(factor=2.0, original_length=12))
    config = decoder(block(attention(position=dynamic)))
    probe = decoding_probe(config, make_probes(config, 1000, (), 0))
    assert probe is not None
    assert probe.length == 12
    assert 1 <= read_at_once(probe.length) < probe.length
    assert decoding_probe(encoder(block()), make_probes(encoder(block()), 1000, (), 0)) is None
