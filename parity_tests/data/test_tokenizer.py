"""Tokenizers: every text survives, every id is known or refused, and one json serves all libraries."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, trainers

from jax_transformer.config import BpeTokenizer, ByteTokenizer, CharTokenizer, TokenizerFile
from jax_transformer.config.errors import DataError
from jax_transformer.data.tokenizer import Tokenizer, build_tokenizer, check_ids, load_tokenizer

EMOJI = ["👩‍👩‍👧", "🇩🇪", "👍🏽", "漢字", "שלום", "e\u0301", "\ufffd", "\r\n", "\0", "<eos>", "<0xE4>", " "]
TEXTS = ["the cat sat on the mat, the hat and the bat\n", "Größe: 漢字 👩‍👩‍👧\n", "a  b\tc\r\n"]
ANY_TEXT = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(EMOJI)), max_size=8).map("".join)
KINDS = ["char", "byte", "bpe", "sentencepiece"]


@pytest.fixture(scope="module")
def built() -> dict[str, Tokenizer]:
    return {
        "char": build_tokenizer(CharTokenizer(), [*TEXTS, *EMOJI]),
        "byte": build_tokenizer(ByteTokenizer(), []),
        "bpe": build_tokenizer(BpeTokenizer(vocab_size=300), TEXTS * 5),
        "sentencepiece": _sentencepiece(),
    }


def _sentencepiece() -> Tokenizer:
    """The shape of Llama 2's and Gemma's tokenizers: spaces as U+2581, unknown characters as byte tokens."""
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(parts)
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=specials, show_progress=False))
    return Tokenizer(backend)


def test_byte_ids_are_the_bytes(built: dict[str, Tokenizer]) -> None:
    tokenizer = built["byte"]
    every_byte_of_utf8 = "".join(map(chr, range(0x800))) + "漢👩" + chr(0x10FFFF)
    assert tokenizer.encode(every_byte_of_utf8) == list(every_byte_of_utf8.encode())
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) == (259, 256, 257, 258)


@given(text=ANY_TEXT)
@settings(max_examples=300)
def test_decoding_inverts_encoding(built: dict[str, Tokenizer], text: str) -> None:
    for kind in ("byte", "bpe"):
        ids = built[kind].encode(text)
        assert built[kind].decode(ids) == text
        assert not {built[kind].pad_id, built[kind].bos_id, built[kind].eos_id} & set(ids)


def test_a_char_is_a_token(built: dict[str, Tokenizer]) -> None:
    text = "".join(TEXTS + EMOJI)
    ids = built["char"].encode(text)
    assert len(ids) == len(text)
    assert built["char"].decode(ids) == text
    assert built["char"].encode_batch(TEXTS) == [built["char"].encode(each) for each in TEXTS]
    assert built["char"].decode(range(built["char"].vocab_size)) == "".join(sorted(set(text)))
    assert built["char"].eos_id is None


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=400)
def test_streamed_pieces_join_to_the_decoded_text(built: dict[str, Tokenizer], kind: str, data: st.DataObject) -> None:
    tokenizer = built[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    if kind != "char":
        text = tokenizer.encode(data.draw(ANY_TEXT))
        ids += text[: data.draw(st.integers(0, len(text)))]  # cut off anywhere, inside a character too
    stream = tokenizer.stream()
    assert "".join([stream.push(token) for token in ids]) + stream.finish() == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_a_complete_character_is_streamed_at_once(built: dict[str, Tokenizer], kind: str) -> None:
    stream = built[kind].stream()
    assert "".join(stream.push(token) for token in built[kind].encode("the")) == "the"


def test_unknown_character_is_named(built: dict[str, Tokenizer]) -> None:
    with pytest.raises(DataError, match=r"character 'é' \(U\+00E9\) at position 3, in 'abcéd'"):
        built["char"].encode("abcéd")
    with pytest.raises(DataError, match=r"U\+00E9\) at position 1"):
        built["char"].encode_batch(["a", "béc"])


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_surrogate_pair_is_refused(built: dict[str, Tokenizer], kind: str) -> None:
    with pytest.raises(DataError, match=r"U\+D800\) at position 1"):
        built[kind].encode("a\ud800")


@pytest.mark.parametrize("token", [259, 1 << 40, -1])
def test_unknown_id_is_refused(built: dict[str, Tokenizer], token: int) -> None:
    with pytest.raises(DataError, match=f"token id {token} at position 2 has no token"):
        built["byte"].decode([65, 66, token])
    stream = built["byte"].stream()
    stream.push(65)
    with pytest.raises(DataError, match=f"token id {token} at position 1 "):
        stream.push(token)


def test_id_outside_the_vocabulary_is_refused_with_its_position() -> None:
    check_ids([0, 9], 10, "prompt")
    check_ids([], 10, "prompt")
    with pytest.raises(DataError, match=r"prompt: token id 10 at position 1 is outside 0\.\.9"):
        check_ids([3, 10, -1], 10, "prompt")
    with pytest.raises(DataError, match="token id -1 at position 0"):
        check_ids([-1], 10, "prompt")
    with pytest.raises(DataError, match="must be integers"):
        check_ids([1.0], 10, "prompt")


@pytest.mark.parametrize("kind", KINDS)
def test_saved_tokenizer_is_the_same(built: dict[str, Tokenizer], kind: str, tmp_path: Path) -> None:
    path = built[kind].save(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["tokenizer.json"]
    for opened in (load_tokenizer(path), load_tokenizer(tmp_path), build_tokenizer(TokenizerFile(path=str(path)), [])):
        assert opened.to_json() == built[kind].to_json()
        assert opened.encode_batch(TEXTS) == built[kind].encode_batch(TEXTS)
        assert opened.eos_id == built[kind].eos_id


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_transformers_reads_the_same_tokens(built: dict[str, Tokenizer], kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(built[kind].save(tmp_path)))
    for text in [*TEXTS, "  the cat \n\n sat"]:
        ids = built[kind].encode(text)
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text


def test_bpe_training_gives_the_same_file_in_every_process(built: dict[str, Tokenizer]) -> None:
    program = (
        "from jax_transformer.config import BpeTokenizer\n"
        "from jax_transformer.data.tokenizer import build_tokenizer\n"
        f"print(build_tokenizer(BpeTokenizer(vocab_size=300), {TEXTS * 5!r}).to_json())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(built["bpe"].to_json())
    assert built["bpe"].eos_id is not None


def test_a_file_neither_truncates_nor_pads_nor_adds(built: dict[str, Tokenizer], tmp_path: Path) -> None:
    content = json.loads(built["bpe"].to_json())
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<bos>": {"id": "<bos>", "ids": [built["bpe"].bos_id], "tokens": ["<bos>"]}},
    }
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(content))
    assert load_tokenizer(file).encode(TEXTS[0]) == built["bpe"].encode(TEXTS[0])


def test_a_missing_or_damaged_file_is_refused(built: dict[str, Tokenizer], tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    with pytest.raises(DataError, match=r"tokenizer\.json: no such tokenizer file"):
        load_tokenizer(tmp_path)
    content = built["bpe"].to_json()
    for damaged in ("", "{}", "[1]", content[: len(content) // 2], '{"model": {"type": "Nonsense"}}'):
        file.write_text(damaged)
        with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer\.json"):
            load_tokenizer(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot read the tokenizer"):
        load_tokenizer(file)


def test_char_tokenizer_without_text_is_refused() -> None:
    with pytest.raises(DataError, match="empty"):
        build_tokenizer(CharTokenizer(), [])
