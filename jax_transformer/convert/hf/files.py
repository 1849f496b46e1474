"""The small files of a folder in Hugging Face layout: config.json, and what travels with the weights."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_transformer.config.errors import WeightsError
from jax_transformer.config.special_tokens import BOS_NAMES, EOS_NAMES, PAD_NAMES
from jax_transformer.convert.hf.family import IDS
from jax_transformer.convert.safetensors_file import parse_json

COMPANIONS = (
    "added_tokens.json",
    "additional_chat_templates/*.jinja",
    "bpe.codes",
    "chat_template.jinja",
    "chat_template.json",
    "dict.txt",
    "generation_config.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "source.spm",
    "special_tokens_map.json",
    "spiece.model",
    "target.spm",
    "target_vocab.json",
    "tekken.json",
    "tiktoken.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.model.v*",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""Files beside the weights that travel with them; ``*`` stands for anything but a slash."""

_GENERATION, _TOKENIZER, _SETTINGS = "generation_config.json", "tokenizer.json", "tokenizer_config.json"
_START = "decoder_start_token_id"
_NAMES = dict(zip(IDS, (BOS_NAMES, EOS_NAMES, PAD_NAMES), strict=True))


def read_values(folder: str | Path) -> dict[str, Any]:
    """The keys of a folder's config.json. Raises WeightsError where it is no JSON object."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise WeightsError(f"{folder}: has no config.json")
    return parse_json(path, path.read_bytes())


def is_hf(folder: str | Path) -> bool:
    """Whether a folder's config.json is one of Hugging Face's: it has a ``model_type``, and no ``stack`` of ours."""
    if not (Path(folder) / "config.json").is_file():
        return False
    try:
        values = read_values(folder)
    except WeightsError:
        return False
    return isinstance(values.get("model_type"), str) and not {"stack", "kind"} & values.keys()


def companions(folder: str | Path) -> dict[str, bytes]:
    """The files of a folder that travel with its weights; token ids that only its config.json has, as a generation config."""
    found = (path for pattern in COMPANIONS for path in sorted(Path(folder).glob(pattern)) if path.is_file())
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    if is_hf(folder) and _GENERATION not in files:
        values = read_values(folder)
        if ids := {key: values[key] for key in (*IDS, _START) if values.get(key) is not None}:
            files[_GENERATION] = _json(ids)
    return files


def with_ids(
    files: Mapping[str, bytes], values: Mapping[str, Any], documents: Sequence[str] = ()
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of an export and its config ``values`` with the token ids that they state, in its ``documents`` too.

    A run has no generation config: it gets one with the ids of its tokenizer's special tokens, so that transformers ends a text
    where ``generate`` does.
    """
    files = dict(files)
    own = _TOKENIZER in files and not {_GENERATION, _SETTINGS} & files.keys()
    if own and (ids := _special_ids(files[_TOKENIZER])):
        files[_GENERATION] = _json(ids | {_START: values[_START]} if _START in values else ids)
    stated = parse_json(Path(_GENERATION), files.get(_GENERATION, b"{}"))
    inner = {name: {key: stated[key] for key in IDS if key in stated} | values[name] for name in documents}
    return files, {**values, **{key: stated[key] for key in (*IDS, _START) if key in stated}, **inner}


def _special_ids(tokenizer: bytes) -> dict[str, int]:
    """``eos_token_id`` and the like of a ``tokenizer.json``, by the names that our tokenizers go by."""
    tree = parse_json(Path(_TOKENIZER), tokenizer)
    vocabulary = tree.get("model", {}).get("vocab", {})
    numbers = dict(vocabulary) if isinstance(vocabulary, Mapping) else {}
    numbers |= {token["content"]: token["id"] for token in tree.get("added_tokens", [])}
    found = {key: next((numbers[name] for name in names if name in numbers), None) for key, names in _NAMES.items()}
    return {key: number for key, number in found.items() if number is not None}


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()
