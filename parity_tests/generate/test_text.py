"""Text in, text out: whole characters only, stop strings, folders, and the same greedy text from both frameworks."""

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

import jax_transformer.data.tokenizer as jax_tokenizer
import jax_transformer.generate.text as jax_text
import torch_reference.generate.text as torch_text
from jax_transformer import config as c
from jax_transformer.config.errors import DataError, UserError
from jax_transformer.convert.pretrained import save_pretrained
from parity_tests.generate.sides import GREEDY, MAX_SOURCE, jax_side, model_config, side, source_config, weights

TEXTS = {"jax": jax_text, "torch": torch_text}
FRAMEWORKS = pytest.mark.parametrize("framework", ["jax", "torch"])
BYTES = jax_tokenizer.build_tokenizer(c.ByteTokenizer(), [])
EOS = BYTES.eos_id
VOCAB = BYTES.vocab_size + 6  # padded


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exchange folder with a byte tokenizer."""
    path = tmp_path_factory.mktemp("run") / "export"
    config = model_config(vocab_size=VOCAB)
    save_pretrained(jax_side(config, weights(config)).model, path, BYTES)
    return path


def pieces_of(
    text: ModuleType, backend: Tokenizer, ids: list[int], prompt: str = "p", stop: Any = (), model: Any = None
) -> list[str]:
    """What ``continue_text`` yields where the model (default: some decoder) draws ``ids``."""
    tokenizer = jax_tokenizer.Tokenizer(backend) if text is jax_text else backend
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "stream", lambda *_, **__: iter(ids))
        return list(text.continue_text(model, tokenizer, prompt, GREEDY, 99, stop))


@FRAMEWORKS
@settings(max_examples=60)
@given(st.text(max_size=12), st.text(min_size=1, max_size=5))
def test_pieces_join_to_the_text_and_never_end_inside_a_character(framework, drawn, prompt):
    pieces = pieces_of(TEXTS[framework], BYTES._backend, BYTES.encode(drawn), prompt)
    assert "".join(pieces) == drawn
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in drawn


@FRAMEWORKS
def test_a_text_cut_inside_a_character_ends_with_the_replacement(framework):
    assert pieces_of(TEXTS[framework], BYTES._backend, BYTES.encode("a€")[:-1]) == ["a", "\ufffd"]


@FRAMEWORKS
@settings(max_examples=60)
@given(st.text("abc", max_size=14), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3))
def test_text_ends_before_the_stop_string_that_is_completed_first(framework, drawn, stop):
    shown = "".join(pieces_of(TEXTS[framework], BYTES._backend, BYTES.encode(drawn), stop=stop))
    # One character at a time: the first end of any stop string, and of those that end there the earliest beginning.
    ends = [end for end in range(len(drawn) + 1) if any(drawn[:end].endswith(text) for text in stop)]
    end = ends[0] if ends else None
    begins = [end - len(text) for text in stop if drawn[:end].endswith(text)] if ends else [None]
    assert shown == drawn[: min(begins) if ends else None]


@FRAMEWORKS
def test_text_is_shown_as_soon_as_no_stop_string_can_begin_in_it(framework):
    assert pieces_of(TEXTS[framework], BYTES._backend, BYTES.encode("xa-ab!"), stop=["ab", "-ax"]) == ["x", "a", "-"]


@FRAMEWORKS
def test_a_decoder_that_strips_the_first_space_strips_that_of_a_target_and_not_of_a_continuation(framework):
    backend = Tokenizer(models.WordLevel({"▁hi": 0, "▁you": 1}, unk_token="▁hi"))
    backend.decoder = decoders.Metaspace()
    assert pieces_of(TEXTS[framework], backend, [1, 1]) == [" you", " you"]
    assert pieces_of(TEXTS[framework], backend, [1, 1], model=side(framework, config=source_config).model) == ["you", " you"]


@FRAMEWORKS
def test_folder_and_run_folder_give_the_models_own_tokens(framework, folder):
    text = TEXTS[framework]
    config = model_config(vocab_size=VOCAB)
    side = jax_side(config, weights(config))
    ids = side.generate([BYTES.encode("hällo")], stop_tokens=[EOS], num_tokens=BYTES.vocab_size)[0]
    assert len(ids) > 4
    shown = "".join(text.stream_text(folder, "hällo", GREEDY, 16))
    assert BYTES.decode(BYTES.encode("hällo") + ids) == "hällo" + shown
    assert "".join(text.stream_text(folder.parent, "hällo", GREEDY, 16)) == shown
    assert shown[3] not in "".join(text.stream_text(folder, "hällo", GREEDY, 16, stop=[shown[3]]))


@FRAMEWORKS
def test_a_source_is_ended_and_the_target_stands_alone(framework, tmp_path):
    text, config = TEXTS[framework], source_config(vocab_size=VOCAB)
    side = jax_side(config, weights(config))
    save_pretrained(side.model, tmp_path / "export", BYTES)
    source = BYTES.encode("hällo")
    ended, plain = side.generate([[*source, EOS], source], stop_tokens=[EOS], num_tokens=BYTES.vocab_size)
    assert ended != plain
    assert "".join(text.stream_text(tmp_path, "hällo", GREEDY, 16)) == BYTES.decode(ended)
    with pytest.raises(DataError, match="the prompt is empty"):
        text.stream_text(tmp_path, "", GREEDY, 4)
    with pytest.raises(DataError, match=f"{MAX_SOURCE + 1} tokens exceed max_source_length"):
        text.stream_text(tmp_path, "x" * MAX_SOURCE, GREEDY, 4)


@FRAMEWORKS
def test_end_of_text_and_padding_of_the_vocabulary_are_taken_from_the_tokenizer(framework, monkeypatch):
    text, asked = TEXTS[framework], {}
    monkeypatch.setattr(text, "stream", lambda *_, **request: iter(asked.update(request) or ()))
    tokenizer = BYTES if framework == "jax" else BYTES._backend
    assert list(text.continue_text(None, tokenizer, "a", GREEDY, 5)) == []
    assert list(asked["stop_tokens"]) == [EOS]
    assert asked["num_tokens"] == BYTES.vocab_size


def test_both_frameworks_know_the_same_end_of_text_tokens():
    assert torch_text.EOS_NAMES == jax_tokenizer.EOS_NAMES


@FRAMEWORKS
def test_special_tokens_in_a_prompt_are_plain_characters(framework, folder):
    assert TEXTS[framework].load_tokenizer(folder).encode("<eos>") != [EOS]
    long_if_plain = "<eos>" * 16  # 80 characters and no room left
    with pytest.raises(DataError, match="80 tokens leave no room"):
        TEXTS[framework].stream_text(folder, long_if_plain, GREEDY, 1)


@FRAMEWORKS
def test_bad_text_requests_are_refused_at_once(framework, folder, tmp_path):
    text = TEXTS[framework]
    chars = jax_tokenizer.build_tokenizer(c.CharTokenizer(), ["abc"])
    chars.save(tmp_path)  # no weights there: the prompt is checked before they are read
    cases = [
        (folder, "", (), "the prompt is empty"),
        (folder, "a", ("",), "stop: got an empty string"),
        (tmp_path, "abz", (), "z"),
        (tmp_path / "none", "a", (), "none"),
    ]
    for path, prompt, stop, message in cases:
        with pytest.raises(DataError, match=message):
            text.stream_text(path, prompt, GREEDY, 4, stop)
    with pytest.raises(UserError, match=str(tmp_path)):
        text.stream_text(tmp_path, "abc", GREEDY, 4)
    side = jax_side(model_config(), weights(model_config()))
    if framework == "jax":
        with pytest.raises(DataError, match="does the tokenizer belong to this model"):
            text.continue_text(side.model, BYTES, "a", GREEDY, 4)
