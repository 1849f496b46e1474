"""The tokenizer files beside a model as metadata of a GGUF file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax_transformer.convert.gguf.tokenizer import HUGGINGFACE, SPECIAL
from jax_transformer.convert.safetensors_file import parse_json


def tokenizer_metadata(files: Mapping[str, bytes]) -> dict[str, Any]:
    """``tokenizer.json`` as it is, ids of special tokens, and the chat template. Raises WeightsError for what is no JSON."""
    result: dict[str, Any] = {}
    settings, generation = (_json(files, name) for name in ("tokenizer_config.json", "generation_config.json"))
    ids: dict[str, Any] = {}
    if "tokenizer.json" in files:
        result[f"tokenizer.{HUGGINGFACE}"] = files["tokenizer.json"].decode()
        added = {token["content"]: token["id"] for token in _json(files, "tokenizer.json").get("added_tokens", [])}
        named = {name: settings.get(f"{name}_token") for name in SPECIAL}
        texts = {name: token["content"] if isinstance(token, dict) else token for name, token in named.items()}
        ids = {name: added[text] for name, text in texts.items() if text in added}
    ids |= {name: generation[f"{name}_token_id"] for name in SPECIAL if generation.get(f"{name}_token_id") is not None}
    if isinstance(ids.get("eos"), list):
        ids["eos"], *rest = ids["eos"]
        ids |= {"eot": rest[0]} if rest else {}
    keys = SPECIAL | {"eot": "eot"}
    result |= {f"tokenizer.ggml.{keys[name]}_token_id": number for name, number in ids.items()}
    template = files.get("chat_template.jinja", b"").decode() or settings.get("chat_template")
    return result | ({"tokenizer.chat_template": template} if isinstance(template, str) else {})


def _json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return parse_json(Path(name), files[name]) if name in files else {}
