"""The tokenizer inside a GGUF file gives the ids of the tokenizer that the file was made of."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.gguf import companions
from jax_transformer.convert.pretrained import convert
from jax_transformer.data.tokenizer import load_tokenizer
from parity_tests.gguf.files import metadata_of, pack, tensors_of
from parity_tests.hf.checkpoints import save, transformers

TEXTS = [
    "The quick brown fox doesn't jump 12345 times over 67 lazy dogs; THEY'LL see.",
    "def f(x):\n\treturn  x**2   # square\r\n\r\n  ",
    "naïve café 中文字 🙂 e\u0301té",
    " <|start|>user\nHello<tool><|end|> ",
]
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern: str) -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), BYTES])


PRE: dict[str, tuple[Any, Any]] = {
    "gpt-2": (pre_tokenizers.ByteLevel(add_prefix_space=False), None),
    "smollm": (pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]), None),
    "llama-bpe": (split(LLAMA3), None),
    "qwen2": (split(LLAMA3.replace("{1,3}", "")), normalizers.NFC()),
}
"""Pre-tokenizer and normalizer of the ``tokenizer.json`` that GPT-2, SmolLM, Llama 3 and Qwen 2 have."""


def original(pre: str) -> Tokenizer:
    """A tokenizer of this kind, learned from the texts."""
    backend = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    backend.pre_tokenizer, normalizer = PRE[pre]
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.decoder = decoders.ByteLevel()
    special = ["<|start|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS * 2, trainer)
    backend.add_tokens([AddedToken("<tool>", normalized=False)])
    return backend


def metadata(pre: str, **more: Any) -> dict[str, Any]:
    """What llama.cpp's converter writes of such a tokenizer, two unused rows included."""
    values = json.loads(original(pre).to_str())
    names = values["model"]["vocab"] | {token["content"]: token["id"] for token in values["added_tokens"]}
    tokens = [*sorted(names, key=names.__getitem__), "[PAD1]", "[PAD2]"]
    kinds = {"<|start|>": 3, "<|end|>": 3, "<tool>": 4, "[PAD1]": 5, "[PAD2]": 5}
    keys = {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": [kinds.get(token, 1) for token in tokens],
        "merges": [" ".join(merge) for merge in values["model"]["merges"]],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "padding_token_id": 1,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (keys | more).items()} | {"tokenizer.chat_template": "{{ x }}"}


def files(path: Path, values: dict[str, Any]) -> dict[str, bytes]:
    path.write_bytes(pack({"general.architecture": "llama"} | values, {}))
    return companions(path)


@pytest.mark.parametrize("pre", PRE)
def test_ids_and_texts_are_those_of_the_original(pre: str, tmp_path: Path):
    got = Tokenizer.from_str(files(tmp_path / "x.gguf", metadata(pre, add_bos_token=False))["tokenizer.json"].decode())
    wanted = original(pre)
    assert len(got.get_vocab()) == len(wanted.get_vocab())
    for text in TEXTS:
        words = [backend.pre_tokenizer.pre_tokenize_str(text) for backend in (got, wanted) if backend.pre_tokenizer]
        assert words[0] == words[1]
        for special in (False, True):
            got.encode_special_tokens = wanted.encode_special_tokens = special
            ids = wanted.encode(text).ids
            assert got.encode(text).ids == ids
            assert got.decode(ids, skip_special_tokens=False) == wanted.decode(ids, skip_special_tokens=False)
            assert got.decode(ids) == wanted.decode(ids)
    different = {name: original(name).encode("12345 e\u0301").tokens for name in PRE}
    assert len({tuple(tokens) for tokens in different.values()}) == len(PRE)


def test_starcoder_cuts_texts_as_smollm_does(tmp_path: Path):
    keys = metadata("smollm")
    other = files(tmp_path / "x.gguf", keys | {"tokenizer.ggml.pre": "starcoder"})
    assert other == files(tmp_path / "y.gguf", keys) != files(tmp_path / "z.gguf", keys | {"tokenizer.ggml.pre": "gpt-2"})


@pytest.mark.parametrize(
    ("pre", "stated", "begins"), [("llama-bpe", None, True), ("qwen2", None, False), ("qwen2", True, True)]
)
def test_texts_begin_with_a_token_where_the_file_or_its_kind_says_so(
    pre: str, stated: bool | None, begins: bool, tmp_path: Path
):
    more = {} if stated is None else {"add_bos_token": stated}
    backend = Tokenizer.from_str(files(tmp_path / "x.gguf", metadata(pre, **more))["tokenizer.json"].decode())
    assert (backend.encode("fox").ids[0] == 0) == begins
    assert backend.encode("fox", add_special_tokens=False).ids == original(pre).encode("fox").ids


def test_a_converted_model_has_its_tokenizer_and_its_template(tmp_path: Path):
    theirs = save("llama", tmp_path / "hf")
    values = metadata_of(theirs.config, "llama") | metadata("smollm", unknown_token_id=0)
    (tmp_path / "model.gguf").write_bytes(pack(values, tensors_of(tmp_path / "hf", "llama", (4, 2))))
    convert(tmp_path / "model.gguf", tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", format="hf")
    assert load_tokenizer(tmp_path / "ours").encode(TEXTS[0]) == original("smollm").encode(TEXTS[0]).ids
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert tokenizer(TEXTS[3]).input_ids == original("smollm").encode(TEXTS[3]).ids
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == ("<|start|>", "<|end|>", "<|start|>")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False, x="template") == "template"
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (0, 1, 1)


LETTERS = np.random.default_rng(2).choice(list("aabcd "), (30, 40))
WORDS = ["the quick brown fox", "  two  spaces ", "naïve 中 queue", "", *("".join(row) for row in LETTERS)]


def pieces() -> dict[str, tuple[float, int]]:
    """SentencePiece's vocabulary: token to score and type; the earlier a union was learned, the higher it scores."""
    backend = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=90, show_progress=False, max_token_length=6)
    backend.train_from_iterator([text.replace(" ", "\u2581") for text in WORDS], trainer)
    learned = backend.get_vocab()
    special = {"<unk>": (0.0, 2), "<s>": (0.0, 3), "</s>": (0.0, 3)} | {f"<0x{byte:02X}>": (0.0, 6) for byte in range(256)}
    return special | {piece: (-float(learned[piece]), 1) for piece in sorted(learned, key=learned.__getitem__)}


def merged_by_score(text: str, vocabulary: dict[str, tuple[float, int]]) -> list[str]:
    """What SentencePiece does: again and again, the neighbours whose union scores highest become one, the leftmost first."""
    symbols = list(text.replace(" ", "\u2581"))
    while True:
        unions = [(vocabulary[one + two][0], -at) for at, (one, two) in enumerate(pairwise(symbols)) if one + two in vocabulary]
        if not unions:
            break
        at = -max(unions)[1]
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    return [part for one in symbols for part in ([one] if one in vocabulary else [f"<0x{byte:02X}>" for byte in one.encode()])]


@pytest.mark.parametrize("prefixed", [True, False])
def test_pieces_are_merged_by_their_scores(prefixed: bool, tmp_path: Path):
    vocabulary = pieces()
    assert max(map(len, vocabulary)) == 6
    keys = {
        "model": "llama",
        "tokens": list(vocabulary),
        "scores": [score for score, _ in vocabulary.values()],
        "token_type": [kind for _, kind in vocabulary.values()],
        "add_space_prefix": prefixed,
        "bos_token_id": 1,
    }
    values = {f"tokenizer.ggml.{key}": item for key, item in keys.items()}
    backend = Tokenizer.from_str(files(tmp_path / "x.gguf", values)["tokenizer.json"].decode())
    other_order = {token: (-score, kind) for token, (score, kind) in vocabulary.items()}
    differ = 0
    for text in WORDS:
        given = f" {text}" if prefixed and text else text
        assert backend.encode(text).tokens == ["<s>", *merged_by_score(given, vocabulary)]
        assert backend.decode(backend.encode(text).ids) == text
        differ += merged_by_score(given, vocabulary) != merged_by_score(given, other_order)
    assert differ > 20


def test_a_file_without_a_tokenizer_has_none(tmp_path: Path):
    assert files(tmp_path / "x.gguf", {}) == {}
    assert files(tmp_path / "y.gguf", {"tokenizer.ggml.model": "none"}) == {}


WRONG = {
    "other kind": ({"model": "bert"}, "tokenizer.ggml.model is 'bert'"),
    "no scores": ({"model": "llama"}, "its tokenizer is damaged"),
    "other words": ({"pre": "bailingmoe"}, ".pre 'bailingmoe'; wanted 'llama', or 'gpt2' and one of ['gpt-2'"),
    "list for it": ({"pre": ["smollm"]}, ".pre ['smollm']"),
    "token twice": ({"tokens": ["a", "a"], "token_type": [1, 1]}, "a token appears twice"),
    "types missing": ({"token_type": [1]}, "its tokenizer is damaged"),
    "merge of three": ({"merges": ["a b c"]}, "a merge is not two tokens"),
    "unknown merge": ({"merges": ["zz yy"]}, "its tokenizer is damaged"),
    "id outside": ({"bos_token_id": 10**6}, "its tokenizer is damaged"),
    "tokens as a number": ({"tokens": 3}, "its tokenizer is damaged"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_damaged_or_unknown_tokenizer_is_refused(case: str, tmp_path: Path):
    more, wanted = WRONG[case]
    with pytest.raises(WeightsError) as caught:
        files(tmp_path / "x.gguf", metadata("smollm") | {f"tokenizer.ggml.{key}": value for key, value in more.items()})
    assert wanted in str(caught.value)
