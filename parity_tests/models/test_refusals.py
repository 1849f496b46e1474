"""What a model refuses, it refuses in both packages with the same words."""

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest

from jax_transformer import config
from jax_transformer.config.errors import DataError
from parity_tests.ops.pairs import array
from parity_tests.tolerances import FLOAT32_MODULE

ATTENTION = config.Softmax(num_heads=2, head_dim=4)
BLOCK = config.Block(attention=ATTENTION, ffn=config.Mlp(hidden_dim=5), norm=config.RMSNorm())
STACK = config.Stack(pattern=(BLOCK,), num_layers=1)
CONFIG = config.Decoder(vocab_size=7, d_model=6, max_length=4, stack=STACK, final_norm=config.RMSNorm())


def refusals(check: Callable) -> str:
    """The message of ``check(module)``, the same in both packages."""
    messages = []
    for package in ("jax_transformer", "torch_reference"):
        with pytest.raises(DataError) as caught:
            check(import_module(f"{package}.models.checks"))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    return messages[0]


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (np.array([[0, 6], [3, 7]]), "tokens[1, 1] = 7 is outside the vocabulary [0, 7) (1 such ids)"),
        (np.array([[-1, 6, 9]], np.int32), "tokens[0, 0] = -1 is outside the vocabulary [0, 7) (2 such ids)"),
        (np.zeros((1, 5), np.int32), "got length 5, above max_length=4"),
        (np.zeros(3, np.int32), "got shape (3,) of int32, wanted integers of shape [batch, length]"),
        (np.zeros((1, 3), np.float32), "got shape (1, 3) of float32"),
        (np.zeros((1, 3), bool), "got shape (1, 3) of bool"),
    ],
)
def test_tokens_that_no_model_can_read(tokens: np.ndarray, words: str):
    assert words in refusals(lambda checks: checks.check_tokens(tokens, CONFIG))


def test_segments_of_another_shape():
    tokens, segments = np.zeros((2, 3), np.int32), np.ones((2, 4), np.int32)
    assert "got shape (2, 4), wanted (2, 3)" in refusals(lambda checks: checks.check_segments(segments, tokens))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([2, 2, 1, 2, 0, 2], "segments[1]: segment 2 is in 3 pieces, wanted one; number every document of a row differently"),
        ([1, 0, 0, 1, 0, 0], "segments[1]: segment 1 is in 2 pieces"),
    ],
)
def test_segments_that_are_not_in_one_piece(row: list[int], words: str):
    segments, tokens = np.array([[3, 3, 1, 2, 0, 0], row], np.int32), np.zeros((2, 6), np.int32)
    assert words in refusals(lambda checks: checks.check_segments(segments, tokens))
    assert refusals(lambda checks: checks.check_segments(segments, tokens, "source")).startswith("source_segments[1]")


@pytest.mark.parametrize("package", ["jax_transformer", "torch_reference"])
def test_padding_between_new_tokens_of_a_cache_is_no_end_of_a_segment(package: str):
    model, tokens = import_module(f"{package}.models").build_model(CONFIG), np.array([[3, 0, 4]], np.int32)
    gap, whole = (
        model.decode(*given, model.empty_cache(1, 3), segments=np.array([segments], np.int32))[0]
        for given, segments in (((tokens,), [1, 0, 1]), ((tokens[:, [1, 0, 2]],), [0, 1, 1]))
    )
    np.testing.assert_allclose(array(gap)[0, 2], array(whole)[0, 2], **FLOAT32_MODULE)


def test_tokens_that_do_not_fit_in_a_cache():
    models = {name: import_module(f"{name}.models").build_model(CONFIG) for name in ("jax_transformer", "torch_reference")}

    def overfill(checks):
        model = models[checks.__name__.partition(".")[0]]
        _, cache = model.decode(np.zeros((1, 2), np.int32), model.empty_cache(1, 3))
        model.decode(np.zeros((1, 2), np.int32), cache)

    assert refusals(overfill) == "cache: 2 of 3 slots are used and 2 more tokens do not fit; ask for a longer cache"


def decoding(embedding: config.Embedding) -> config.Decoder:
    return CONFIG.model_copy(update={"embedding": embedding})


def writing(embedding: config.Embedding) -> config.EncoderDecoder:
    cross = config.CrossAttention(num_heads=2, head_dim=4)
    stack = config.Stack(pattern=(BLOCK.model_copy(update={"cross_attention": cross}),), num_layers=1)
    source, target = config.Tower(stack=STACK, final_norm=None), config.Tower(embedding=embedding, stack=stack, final_norm=None)
    sizes = {"vocab_size": 7, "d_model": 6, "max_length": 4, "max_source_length": 4}
    return config.EncoderDecoder(**sizes, encoder=source, decoder=target)


@pytest.mark.parametrize("architecture", [decoding, writing])
def test_more_positions_than_a_learned_table_holds(architecture: Callable):
    def read_five(checks, embedding):
        model = import_module(f"{checks.__name__.partition('.')[0]}.models").build_model(architecture(embedding))
        cache = model.start(np.zeros((1, 3), np.int32), length=6) if architecture is writing else model.empty_cache(1, 6)
        _, cache = model.decode(np.zeros((1, 4), np.int32), cache)  # as many as there are rows
        model.decode(np.zeros((1, 1), np.int32), cache)

    learned = config.Embedding(position=config.Learned(offset=2))
    words = "cache: position 4 has no row in the learned table of max_length=4 positions"
    assert refusals(lambda checks: read_five(checks, learned)) == words
    for package in ("jax_transformer", "torch_reference"):
        read_five(import_module(f"{package}.models.checks"), config.Embedding())


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.uint32, np.int64])
@pytest.mark.parametrize("package", ["jax_transformer", "torch_reference"])
def test_every_integer_type_is_fine(package: str, dtype: type):
    checked = import_module(f"{package}.models.checks").check_tokens(np.array([[6, 0]], dtype), CONFIG)
    assert checked.tolist() == [[6, 0]]
