"""Requests that a model cannot serve are refused by name and number before anything runs."""

import numpy as np
import pytest

from jax_transformer.config.errors import DataError
from parity_tests.generate.sides import MAX_LENGTH, VOCAB, side

BAD_REQUESTS = {
    "no prompt": ({"prompts": []}, "got none"),
    "empty prompt": ({"prompts": [[1], []]}, r"prompts\[1\]: the prompt is empty"),
    "empty array": ({"prompts": [np.array([])]}, r"prompts\[0\]: the prompt is empty"),
    "id too large": ({"prompts": [[1], [2, VOCAB]]}, rf"prompts\[1\]\[1\] = {VOCAB} is outside the vocabulary \[0, {VOCAB}\)"),
    "negative id": ({"prompts": [[-1]]}, r"prompts\[0\]\[0\] = -1"),
    "text": ({"prompts": ["hello"]}, "wanted a sequence of integer token ids"),
    "one flat prompt": ({"prompts": [1, 2, 3]}, r"prompts\[0\]: got int64 of shape \(\)"),
    "fractions": ({"prompts": [[1.0]]}, "got float64"),
    "prompt above max_length": ({"prompts": [[1] * (MAX_LENGTH + 1)]}, rf"{MAX_LENGTH + 1} tokens leave no room.*at least 2"),
    "prompt of max_length": ({"prompts": [[1] * MAX_LENGTH]}, f"leave no room in max_length={MAX_LENGTH}"),
    "no room": (
        {"prompts": [[1, 2]], "max_new_tokens": MAX_LENGTH - 1},
        rf"= {MAX_LENGTH + 1} exceed.*at most {MAX_LENGTH - 2} new",
    ),
    "nothing asked": ({"max_new_tokens": 0}, "max_new_tokens=0: wanted at least 1"),
    "stop outside": ({"stop_tokens": [VOCAB]}, rf"stop_tokens\[0\] = {VOCAB}"),
    "tokenizer too large": ({"num_tokens": VOCAB + 1}, f"num_tokens={VOCAB + 1}: wanted 1 to vocab_size={VOCAB}"),
    "no tokens": ({"num_tokens": 0}, "num_tokens=0"),
}


@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused(framework, name):
    request, message = BAD_REQUESTS[name]
    with pytest.raises(DataError, match=message):
        side(framework).generate(**request)


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_stream_refuses_at_once_and_not_at_the_first_token(framework):
    with pytest.raises(DataError, match="the prompt is empty"):
        side(framework).stream([])
    with pytest.raises(DataError, match="exceed"):
        side(framework).stream([1], max_new_tokens=MAX_LENGTH)


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_integers_of_any_kind_are_tokens(framework):
    prompt = [5, 11, 2]
    wanted = side(framework).generate([prompt])
    assert side(framework).generate([np.array(prompt, np.uint16)]) == wanted
    assert side(framework).generate(np.array([prompt])) == wanted
