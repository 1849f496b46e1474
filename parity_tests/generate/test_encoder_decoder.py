"""An encoder-decoder reads prompts as sources and writes targets, the same in both frameworks; an encoder writes nothing."""

import jax
import pytest

from jax_transformer import config as c
from jax_transformer.config.errors import DataError
from jax_transformer.generate import engine
from parity_tests.generate.sides import (
    GREEDY,
    MAX_SOURCE,
    MAX_TARGET,
    PROMPTS,
    SAMPLED,
    START,
    VOCAB,
    Side,
    by_definition,
    encoder_config,
    side,
    source_config,
)

FRAMEWORKS = pytest.mark.parametrize("framework", ["jax", "torch"])
LONG = tuple((7 * i + 3) % VOCAB for i in range(20))
"""In the next bucket, which ``max_source_length`` cuts short."""


def translator(framework: str, dtype: str = "float32") -> Side:
    """The encoder-decoder."""
    return side(framework, dtype, source_config)


@FRAMEWORKS
@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_cached_targets_equal_repeated_full_forward_passes(framework, settings):
    s = translator(framework)
    rows = s.generate(settings=settings)
    assert rows == by_definition(s, PROMPTS, settings, 16)
    assert len({tuple(row) for row in rows}) == len(rows)  # so the source is read
    assert min(len(set(row)) for row in rows) > 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_greedy_targets_are_the_same_in_both_frameworks(dtype):
    assert translator("jax", dtype).generate() == translator("torch", dtype).generate()


@FRAMEWORKS
def test_a_target_does_not_depend_on_the_other_rows(framework):
    s, (a, b, c) = translator(framework), PROMPTS
    greedy, (first, _, third) = s.generate(), s.generate(settings=SAMPLED)
    assert s.generate((c, b, a)) == greedy[::-1]
    assert s.generate((a, LONG, c), SAMPLED)[::2] == [first, third]
    assert [s.generate([prompt])[0] for prompt in PROMPTS] == greedy


@FRAMEWORKS
def test_a_streamed_target_is_the_generated_one(framework):
    s = translator(framework)
    whole = s.generate(PROMPTS[:1], SAMPLED)[0]
    assert list(s.stream(PROMPTS[0], SAMPLED)) == whole
    assert list(s.stream(PROMPTS[0], SAMPLED, stop_tokens=whole[5:6])) == whole[: whole.index(whole[5])]


@FRAMEWORKS
def test_source_and_target_may_be_as_long_as_the_model_allows(framework):
    source = (LONG * 2)[:MAX_SOURCE]
    rows = translator(framework).generate([source, LONG], max_new_tokens=MAX_TARGET)
    assert [len(row) for row in rows] == [MAX_TARGET, MAX_TARGET]
    assert rows == by_definition(translator("torch", "float64"), [source, LONG], GREEDY, MAX_TARGET)


def test_the_loop_donates_the_source_with_its_cache():
    s = translator("jax")
    loop = engine._start(s.model, PROMPTS, GREEDY, 16, (), None)
    loop.advance(loop.state, 16)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(loop.state.cache))


def test_sources_of_one_bucket_share_one_compilation():
    s = translator("jax")
    s.generate(settings=SAMPLED)
    compiled = engine._prefill._cache_size(), engine._advance._cache_size()
    s.generate(([1, 2], [3], list(range(16))), SAMPLED.model_copy(update={"seed": 9}), max_new_tokens=5, stop_tokens=[1, 2])
    assert (engine._prefill._cache_size(), engine._advance._cache_size()) == compiled


BAD_REQUESTS = {
    "empty source": ({"prompts": [[1], []]}, r"prompts\[1\]: the prompt is empty"),
    "id too large": ({"prompts": [[1], [2, VOCAB]]}, rf"prompts\[1\]\[1\] = {VOCAB} is outside the vocabulary"),
    "source too long": (
        {"prompts": [[1], [1] * (MAX_SOURCE + 3)]},
        rf"prompts\[1\]: {MAX_SOURCE + 3} tokens exceed max_source_length={MAX_SOURCE}; shorten the prompt by at least 3",
    ),
    "target too long": (
        {"max_new_tokens": MAX_TARGET + 1},
        f"max_new_tokens={MAX_TARGET + 1} exceed max_length={MAX_TARGET} of the target; ask for at most {MAX_TARGET}",
    ),
}


@FRAMEWORKS
@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_source_or_target_that_does_not_fit_is_refused(framework, name):
    request, message = BAD_REQUESTS[name]
    with pytest.raises(DataError, match=message):
        translator(framework).generate(**request)


@FRAMEWORKS
@pytest.mark.parametrize(
    ("head", "answer"), [(c.MlmHead(), "the vocabulary at every position"), (c.ClassifierHead(num_classes=3), "the classes")]
)
def test_an_encoder_is_refused_with_what_it_gives_instead(framework, head, answer):
    s = side(framework, config=lambda _: encoder_config(head))
    message = f"encoder, which reads whole texts and writes none: call it on the tokens, for logits over {answer}"
    with pytest.raises(DataError, match=message):
        s.generate()
    with pytest.raises(DataError, match=message):
        s.stream([1])


@FRAMEWORKS
def test_the_start_token_is_read_from_the_config(framework):
    moved = side(framework, config=lambda dtype: source_config(dtype).model_copy(update={"start_token": START + 1}))
    assert moved.generate() != translator(framework).generate()
