"""The tokenizer files beside a model as metadata of a GGUF file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.gguf.tokenizer import (
    CONTROL,
    HUGGINGFACE,
    NORMAL,
    PRE,
    SPECIAL,
    UNUSED,
    USER_DEFINED,
    pre_tokenizer,
    rebuild,
)
from jax_transformer.convert.safetensors_file import parse_json


def tokenizer_metadata(files: Mapping[str, bytes], vocab_size: int) -> dict[str, Any]:
    """``tokenizer.json`` as it is, ids of special tokens, and the chat template; llama.cpp's own keys where they say the same.

    The list of tokens is filled up to the model's ``vocab_size``, which llama.cpp takes from it. Raises WeightsError for files
    that are no JSON.
    """
    settings, generation = (
        parse_json(Path(name), files.get(name, b"{}")) for name in ("tokenizer_config.json", "generation_config.json")
    )
    whole = _whole(files["tokenizer.json"]) if "tokenizer.json" in files else {}
    added = {token["content"]: token["id"] for token in whole.get("added_tokens", [])}
    named = {name: settings.get(f"{name}_token") for name in SPECIAL}
    texts = {name: token["content"] if isinstance(token, dict) else token for name, token in named.items()}
    ids: dict[str, Any] = {name: added[text] for name, text in texts.items() if text in added}
    ids |= {name: generation[f"{name}_token_id"] for name in SPECIAL if generation.get(f"{name}_token_id") is not None}
    if isinstance(ids.get("eos"), list):
        ids["eos"], *rest = ids["eos"]
        ids |= {"eot": rest[0]} if rest else {}
    keys = {f"ggml.{(SPECIAL | {'eot': 'eot'})[name]}_token_id": number for name, number in ids.items()}
    if whole:
        keys |= _own_keys(whole, vocab_size) | {HUGGINGFACE: files["tokenizer.json"].decode()}
    template = files.get("chat_template.jinja", b"").decode() or settings.get("chat_template")
    keys |= {"chat_template": template} if isinstance(template, str) else {}
    return {f"tokenizer.{key}": value for key, value in keys.items()}


def _whole(content: bytes) -> dict[str, Any]:
    """A ``tokenizer.json`` in the library's own spelling. Raises WeightsError for a file that is none."""
    try:
        return json.loads(Tokenizer.from_str(content.decode()).to_str())
    except Exception as error:  # the tokenizers library raises bare Exception
        raise WeightsError(f"tokenizer.json: not one of the tokenizers library: {error}") from error


def _own_keys(whole: dict[str, Any], vocab_size: int) -> dict[str, Any]:
    """llama.cpp's keys of a ``tokenizer.json``; none where the tokenizer that they are read as is another one."""
    if whole["model"].get("type") != "BPE":
        return {}
    kinds = _kinds(whole, vocab_size)
    if len(kinds) != vocab_size:
        return {}
    first = _template(whole)[:1]
    begin = [part["SpecialToken"]["id"] for part in first if "SpecialToken" in part]
    merges = [" ".join(merge) for merge in whole["model"]["merges"]]
    for name, pre in PRE.items():
        if _plain(whole["pre_tokenizer"]) != _plain(json.loads(pre_tokenizer(pre).__getstate__())):
            continue
        keys = {
            "ggml.model": "gpt2",
            "ggml.pre": name,
            "ggml.tokens": list(kinds),
            "ggml.token_type": list(kinds.values()),
            "ggml.merges": merges,
            "ggml.add_bos_token": bool(begin),
        }
        try:
            again = rebuild(keys, {"bos_token": begin[0]} if begin else {})
        except Exception:  # the tokenizers library raises bare Exception; merges of tokens with spaces cannot be said
            return {}
        if _essence(whole) == _essence(json.loads(again.to_str())):
            return keys
    return {}


def _kinds(whole: dict[str, Any], vocab_size: int) -> dict[str, int]:
    """Every token and its type, in the order of the ids; ids without a token are filled up to the ``vocab_size``."""
    numbers = {number: text for text, number in whole["model"]["vocab"].items()}
    kinds = dict.fromkeys(numbers, NORMAL)
    for token in whole["added_tokens"]:
        numbers[token["id"]] = token["content"]
        kinds[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    return {
        numbers.get(number, f"[PAD{number}]"): kinds.get(number, UNUSED)
        for number in range(max(vocab_size, max(numbers, default=0) + 1))
    }


def _essence(whole: dict[str, Any]) -> dict[str, Any]:
    """What a tokenizer does, apart from how its file says it."""
    model, added = whole["model"], {token["content"]: token for token in whole["added_tokens"]}
    return {
        "vocab": model["vocab"] | {text: token["id"] for text, token in added.items()},
        "merges": model["merges"],
        "options": [bool(model.get(key)) for key in ("ignore_merges", "byte_fallback", "dropout", "unk_token", "fuse_unk")],
        "affixes": [model.get(key) or "" for key in ("continuing_subword_prefix", "end_of_word_suffix")],
        "added": added,
        "normalizer": whole["normalizer"],
        "pre_tokenizer": _plain(whole["pre_tokenizer"]),
        "decoder": (whole["decoder"] or {}).get("type"),
        "around": _template(whole),
    }


def _plain(part: Any) -> Any:
    """A part of a tokenizer without what only moves the offsets that it reports."""
    if isinstance(part, dict):
        if len(inner := part.get("pretokenizers", ())) == 1:
            return _plain(inner[0])
        return {key: _plain(value) for key, value in part.items() if key != "trim_offsets"}
    return [_plain(one) for one in part] if isinstance(part, list) else part


def _template(whole: dict[str, Any]) -> list[Any]:
    """What stands around a single text."""
    outer = whole["post_processor"] or {}
    parts = outer.get("processors", [outer])
    return [step for part in parts if part.get("type") == "TemplateProcessing" for step in part["single"]]
