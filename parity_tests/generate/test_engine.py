"""The cached, padded, looped decoder gives the tokens that full forward passes give, in both frameworks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_transformer.config.errors import WeightsError
from jax_transformer.generate import engine
from parity_tests.generate.sides import (
    GREEDY,
    MAX_LENGTH,
    PROMPTS,
    SAMPLED,
    VOCAB,
    by_definition,
    changing_config,
    jax_side,
    linear_time_config,
    model_config,
    side,
    torch_side,
    weights,
)

FRAMEWORKS = pytest.mark.parametrize("framework", ["jax", "torch"])
LONG = tuple((7 * i + 3) % VOCAB for i in range(20))
"""In the next bucket: its neighbours in a batch get more padding."""


@FRAMEWORKS
@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_cached_generation_equals_repeated_full_forward_passes(framework, settings):
    s = side(framework)
    rows = s.generate(settings=settings)
    assert rows == by_definition(s, PROMPTS, settings, 16)
    assert len({tuple(row) for row in rows}) == len(rows)
    assert min(len(set(row)) for row in rows) > 2  # a model that repeats one token would hide mistakes


@FRAMEWORKS
def test_where_a_rotation_changes_on_the_way_all_tokens_are_read_anew(framework):
    s = side(framework, config=changing_config)
    rows = s.generate()
    assert rows == by_definition(s, PROMPTS, GREEDY, 16)
    assert [list(s.stream(prompt)) for prompt in PROMPTS] == rows


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_greedy_tokens_are_the_same_in_both_frameworks(dtype):
    assert side("jax", dtype).generate() == side("torch", dtype).generate()


@FRAMEWORKS
def test_a_row_does_not_depend_on_the_other_rows(framework):
    s, (a, b, c) = side(framework), PROMPTS
    greedy, (first, second, third) = s.generate(), s.generate(settings=SAMPLED)
    assert s.generate((c, b, a)) == greedy[::-1]
    assert s.generate((c, b, a), SAMPLED)[1] == second
    # A longer neighbour moves the batch to the next bucket: other shapes, other padding, the same tokens.
    assert s.generate((a, LONG, c), SAMPLED)[::2] == [first, third]
    assert len({tuple(row) for row in s.generate((b, b, b), SAMPLED)}) == 3  # yet rows draw independently


@FRAMEWORKS
@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_stream_equals_generate_and_the_first_row_of_a_batch(framework, settings):
    s = side(framework)
    streamed = list(s.stream(PROMPTS[0], settings))
    assert streamed == s.generate(PROMPTS[:1], settings)[0] == s.generate(PROMPTS, settings)[0]


def test_states_of_constant_size_generate_what_full_forward_passes_do():
    rows = []
    for framework in ("jax", "torch"):
        s = side(framework, "float64", linear_time_config)
        rows.append(s.generate((*PROMPTS, LONG)))
        assert rows[-1] == by_definition(s, (*PROMPTS, LONG), GREEDY, 16)
        assert s.generate(PROMPTS[1:2]) == rows[-1][1:2]
    assert rows[0] == rows[1]
    assert min(len(set(row)) for row in rows[0]) > 2


@FRAMEWORKS
def test_seeds_reproduce_and_differ(framework):
    s = side(framework)
    runs = [s.generate(settings=SAMPLED.model_copy(update={"seed": seed})) for seed in (3, 4, 3)]
    assert runs[0] == runs[2] == s.generate(settings=SAMPLED)
    assert runs[0] != runs[1]


@FRAMEWORKS
def test_fewer_new_tokens_are_a_prefix(framework):
    s = side(framework)
    whole = s.generate(settings=SAMPLED)
    for count in (1, 7):
        assert s.generate(settings=SAMPLED, max_new_tokens=count) == [row[:count] for row in whole]


@FRAMEWORKS
def test_a_row_ends_before_its_first_stop_token_and_alone(framework):
    s = side(framework)
    rows = s.generate(settings=SAMPLED)
    stop = [rows[0][5], rows[1][0]]
    wanted = [next((row[:i] for i, token in enumerate(row) if token in stop), row) for row in rows]
    assert wanted[1] == []
    assert len({len(row) for row in wanted}) > 1
    assert s.generate(settings=SAMPLED, stop_tokens=stop) == wanted
    assert list(s.stream(PROMPTS[0], SAMPLED, stop_tokens=stop)) == wanted[0]
    assert list(s.stream(PROMPTS[0], SAMPLED, stop_tokens=rows[0][:1])) == []


@FRAMEWORKS
def test_padding_of_the_vocabulary_is_never_drawn(framework):
    s = side(framework)
    assert max(max(row) for row in s.generate(settings=SAMPLED)) >= 20
    assert s.generate(settings=SAMPLED, num_tokens=20) == by_definition(s, PROMPTS, SAMPLED, 16, num_tokens=20)


@FRAMEWORKS
def test_a_request_may_fill_the_model_to_its_last_position(framework):
    prompt = (LONG * 4)[: MAX_LENGTH - 9]
    rows = side(framework).generate([prompt], max_new_tokens=9)
    assert [len(row) for row in rows] == [9]
    assert rows == side("torch", "float64").generate([prompt], max_new_tokens=9)


def test_the_loop_ends_on_the_device_when_every_row_has_stopped():
    s = side("jax")
    stop = [row[0] for row in s.generate()]
    loop = engine._start(s.model, PROMPTS, GREEDY, 16, stop, None)
    assert int(loop.advance(loop.state, 16).step) < 16


def test_the_loop_updates_its_cache_in_place():
    s = side("jax")
    loop = engine._start(s.model, PROMPTS, GREEDY, 16, (), None)
    loop.advance(loop.state, 16)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(loop.state.cache))


def test_requests_of_one_bucket_share_one_compilation():
    s = side("jax")
    s.generate(settings=SAMPLED)
    compiled = engine._prefill._cache_size(), engine._advance._cache_size()
    s.generate(([1, 2], [3], list(range(17))), SAMPLED.model_copy(update={"seed": 9}), max_new_tokens=5, stop_tokens=[1, 2])
    assert (engine._prefill._cache_size(), engine._advance._cache_size()) == compiled


@FRAMEWORKS
def test_logits_that_are_not_finite_are_refused(framework):
    config = model_config()
    hub = weights(config)
    hub["stack.layers.1.ffn.down_proj.weight"] = np.full_like(hub["stack.layers.1.ffn.down_proj.weight"], np.inf)
    s = (jax_side if framework == "jax" else torch_side)(config, hub)
    with pytest.raises(WeightsError, match="new token 0 are not finite"):
        s.generate()
    with pytest.raises(WeightsError, match="new token 0 are not finite"):
        list(s.stream(PROMPTS[0]))


def test_bfloat16_generates():
    rows = side("jax", "bfloat16").generate()
    assert [len(row) for row in rows] == [16, 16, 16]
    assert side("jax", "bfloat16").model.embed.embedding[...].dtype == jnp.bfloat16
