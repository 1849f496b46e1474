"""What the files beside the weights say about texts: which special tokens they get, where they end, how one chats."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from jax_transformer.config.errors import DataError
from jax_transformer.convert.hf.chat import Messages, check_messages, render
from jax_transformer.convert.hf.files import is_hf, read_values
from jax_transformer.convert.safetensors_file import parse_json

_SETTINGS, _TEMPLATE, _PROCESSOR = "tokenizer_config.json", "chat_template.jinja", "chat_template.json"
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class TextRules:
    """How a folder's tokenizer is used."""

    folder: Path
    adds_special_tokens: bool
    """Whether a text gets the tokens that ``tokenizer.json`` puts around it (the first one of Llama, the last one of T5), as
    in transformers. A folder of ours without ``tokenizer_config.json`` adds none: it was trained without them."""
    stop_tokens: tuple[int, ...] | None
    """Ids that end a text; None: the tokenizer's own end-of-text token."""
    template: str | None
    special_tokens: Mapping[str, str]
    """``bos_token`` and the like to the text of each."""

    def chat(self, messages: Messages, tokenizer: tokenizers.Tokenizer) -> list[int]:
        """Token ids of a conversation that waits for its next answer; special tokens of the template are read as such.

        Raises DataError for a folder without a chat template and for messages that it cannot render.
        """
        if self.template is None:
            raise DataError(
                f"{self.folder}: has no chat template, neither {_TEMPLATE} nor chat_template in {_SETTINGS}: give a plain "
                "prompt, without --chat"
            )
        check_messages(messages, [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special])
        text = render(self.template, messages, self.special_tokens, str(self.folder))
        plain = tokenizer.encode_special_tokens
        tokenizer.encode_special_tokens = False
        try:
            return tokenizer.encode(text, add_special_tokens=False).ids
        finally:
            tokenizer.encode_special_tokens = plain


def read_text_rules(folder: Path) -> TextRules:
    """The rules of a folder, ours or Hugging Face's. Raises WeightsError for a file that is no JSON."""
    settings = _read(folder / _SETTINGS)
    tokens = _read(folder / "special_tokens_map.json") | settings
    named = {name: _text(tokens[name]) for name in _NAMES if tokens.get(name) is not None}
    ids = _read(folder / "generation_config.json").get("eos_token_id")
    if ids is None and is_hf(folder):
        ids = read_values(folder).get("eos_token_id")
    stops = None if ids is None else tuple(ids) if isinstance(ids, list) else (ids,)
    return TextRules(folder, (folder / _SETTINGS).is_file(), stops, _template(folder, settings), named)


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The template, or the one named ``default`` of several."""
    if (folder / _TEMPLATE).is_file():
        return (folder / _TEMPLATE).read_text(encoding="utf-8")
    found = settings.get("chat_template") or _read(folder / _PROCESSOR).get("chat_template")
    if isinstance(found, list):
        found = next((entry["template"] for entry in found if entry.get("name") == "default"), None)
    return found


def _text(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else token


def _read(path: Path) -> dict[str, Any]:
    return parse_json(path, path.read_bytes()) if path.is_file() else {}
