"""The tokenizer inside a GGUF file, as a ``tokenizer.json`` and the files beside it."""

import json
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.gguf.file import GgufFile

NORMAL, _UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5
"""Token types: pieces, the one for what has none, special ones, texts that are never cut, and rows that fill up."""

SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""Special tokens in Hugging Face's names and in the keys of a file."""

HUGGINGFACE = "huggingface.json"
"""Key for a whole ``tokenizer.json``, after ``tokenizer.``; where it is there, nothing is rebuilt."""

_SPACE = "\u2581"
"""What SentencePiece writes for a space."""

_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"


@dataclass(frozen=True)
class Pre:
    """What ``tokenizer.ggml.pre`` stands for: how texts are cut into words before they are merged."""

    pattern: str | None = None
    """None: that of GPT-2."""
    single_digits: bool = False
    compose: bool = False
    """Unicode's NFC first."""
    whole_words: bool = False
    """A word that is a token is one, whatever the merges say."""
    bos: bool = False
    """Whether texts begin with the token for it where the file does not say."""


PRE = {
    "gpt-2": Pre(),
    "smollm": Pre(single_digits=True),
    "starcoder": Pre(single_digits=True),
    "llama-bpe": Pre(rf"{_ENDINGS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}", whole_words=True, bos=True),
    "qwen2": Pre(rf"{_ENDINGS}|{_WORDS}|\p{{N}}|{_REST}", compose=True),
}


def tokenizer_files(file: GgufFile) -> dict[str, bytes]:
    """``tokenizer.json``, its config and, where the file has them, chat template and ids; nothing without a tokenizer.

    Raises WeightsError for a tokenizer that is damaged or of an unknown kind.
    """
    values = {key.removeprefix("tokenizer."): value for key, value in file.metadata.items() if key.startswith("tokenizer.")}
    kind, pre = values.get("ggml.model", "none"), values.get("ggml.pre")
    if kind in ("none", "no_vocab") and HUGGINGFACE not in values:
        return {}
    if HUGGINGFACE not in values and kind != "llama" and (kind != "gpt2" or pre not in tuple(PRE)):
        raise WeightsError(
            f"{file.path}: tokenizer.ggml.model is {kind!r} and .pre {pre!r}; wanted 'llama', or 'gpt2' and one of "
            f"{list(PRE)}; load_pretrained reads the model without its tokenizer"
        )
    try:
        return _files(values)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise WeightsError(f"{file.path}: its tokenizer is damaged: {error}") from error


def _files(values: dict[str, Any]) -> dict[str, bytes]:
    ids = {
        f"{name}_token": number for name, key in SPECIAL.items() if (number := values.get(f"ggml.{key}_token_id")) is not None
    }
    if HUGGINGFACE in values:
        text: str = values[HUGGINGFACE]
        backend = Tokenizer.from_str(text)
        names = {name: backend.id_to_token(number) for name, number in ids.items()}
        if None in names.values():
            raise ValueError(f"special tokens {ids} are none of its tokens")
    else:
        names = {name: values["ggml.tokens"][number] for name, number in ids.items()}
        text = rebuild(values, names).to_str(pretty=True)
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **names}
    files = {"tokenizer.json": text.encode(), "tokenizer_config.json": _json(config)}
    if known := {f"{name}_id": ids[name] for name in ("bos_token", "eos_token", "pad_token") if name in names}:
        files["generation_config.json"] = _json(known | _ends(values, ids))
    if isinstance(template := values.get("chat_template"), str):
        files["chat_template.jinja"] = template.encode()
    return files


def _ends(values: dict[str, Any], ids: dict[str, int]) -> dict[str, Any]:
    """Both tokens that end a text, where a file has one for the end of a turn too."""
    both = [ids.get("eos_token"), values.get("ggml.eot_token_id")]
    return {} if None in both or both[0] == both[1] else {"eos_token_id": both}


def rebuild(values: dict[str, Any], names: dict[str, str]) -> Tokenizer:
    """The tokenizer of the keys after ``tokenizer.``, given the texts of its special tokens.

    Raises what comes of damaged values: LookupError, TypeError, ValueError, and the library's bare Exception.
    """
    tokens, kinds = values["ggml.tokens"], values.get("ggml.token_type") or [1] * len(values["ggml.tokens"])
    vocab = {token: number for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind != UNUSED}
    if len(vocab) != len(kinds) - kinds.count(UNUSED):
        raise ValueError("a token appears twice")
    by_kind = {kind: [token for token, other in zip(tokens, kinds, strict=True) if other == kind] for kind in set(kinds)}
    if values["ggml.model"] == "llama":
        backend, bos_first = _sentencepiece(values, vocab, by_kind), True
    else:
        pre = PRE[values["ggml.pre"]]
        backend, bos_first = _byte_level(values, vocab, pre), pre.bos
    special = [*by_kind.get(_UNKNOWN, ()), *by_kind.get(CONTROL, ())]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.add_tokens([AddedToken(token, normalized=False) for token in by_kind.get(USER_DEFINED, ())])
    if values.get("ggml.add_bos_token", bos_first) and (bos := names.get("bos_token")):
        backend.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", f"{bos}:1", "$B:1"], special_tokens=[(bos, vocab[bos])]
        )
    return backend


def _byte_level(values: dict[str, Any], vocab: dict[str, int], pre: Pre) -> Tokenizer:
    """GPT-2's kind: the merges are in the file."""
    merges = [tuple(merge.split(" ")) for merge in values["ggml.merges"]]
    if any(len(merge) != 2 for merge in merges):
        raise ValueError("a merge is not two tokens with a space between them")
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=pre.whole_words))
    if pre.compose:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizer(pre)
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(values: dict[str, Any], vocab: dict[str, int], by_kind: dict[int, list[str]]) -> Tokenizer:
    """SentencePiece's kind: two neighbours whose union scores highest are merged first, so the scores order all merges."""
    scores = dict(zip(values["ggml.tokens"], values["ggml.scores"], strict=True))
    pieces = sorted((token for token in by_kind.get(NORMAL, ()) if len(token) > 1), key=lambda token: -scores[token])
    merges = [
        (piece[:cut], piece[cut:])
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    unknown = next(iter(by_kind.get(_UNKNOWN, ())), None)
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    spaces, back = normalizers.Replace(" ", _SPACE), decoders.Replace(_SPACE, " ")
    prefixed = values.get("ggml.add_space_prefix", True)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefixed else spaces
    strip = [decoders.Strip(" ", 1, 0)] if prefixed else []
    backend.decoder = decoders.Sequence([back, decoders.ByteFallback(), decoders.Fuse(), *strip])
    return backend


def pre_tokenizer(pre: Pre) -> pre_tokenizers.PreTokenizer:
    """What cuts a text into words."""
    parts: list[pre_tokenizers.PreTokenizer] = []
    if pre.single_digits:
        parts.append(pre_tokenizers.Digits(individual_digits=True))
    if pre.pattern is not None:
        parts.append(pre_tokenizers.Split(Regex(pre.pattern), "isolated"))
    return pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre.pattern is None)])


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
