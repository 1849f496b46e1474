"""Text in, text out: a model and its tokenizer, in memory or in a folder, streaming a continuation or an answer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import tokenizers

from jax_transformer.config import Sampling
from jax_transformer.config.errors import DataError
from jax_transformer.config.special_tokens import EOS_NAMES
from jax_transformer.convert.gguf import text_folder
from jax_transformer.convert.hf.chat import Messages
from jax_transformer.convert.hf.texts import read_text_rules
from torch_reference.checkpoint import load_pretrained
from torch_reference.generate.engine import stream
from torch_reference.models.decoder import Decoder
from torch_reference.models.encoder_decoder import EncoderDecoder


def load_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """The ``tokenizer.json`` in ``folder``; DataError where it is missing or no tokenizer."""
    file = folder / "tokenizer.json"
    try:
        tokenizer = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{file}: cannot read the tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "<eos>" in a text is five characters
    return tokenizer


def stream_text(
    folder: Path | str,
    prompt: str | Messages,
    settings: Sampling,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    dtype: str | None = None,
    dequantize: bool = False,
) -> Iterator[str]:
    """``continue_text`` with the model and tokenizer of a folder, ours or Hugging Face's, of a GGUF file, or of
    ``export/`` in a run folder; ``dtype`` and ``dequantize`` as in ``load_pretrained``.

    Messages instead of a text are a conversation, which the folder's chat template makes a prompt of; the text is then the
    answer. A folder of Hugging Face, or made of one, says itself which special tokens a prompt gets and which end the text.
    Raises what loading raises as well: DataError for the tokenizer, ConfigError and WeightsError for the model.
    """
    folder = Path(folder)
    exported = folder / "export"
    folder = exported if exported.is_dir() else folder
    with text_folder(folder) as beside:
        tokenizer, rules = load_tokenizer(beside), replace(read_text_rules(beside), folder=folder)
    # A prompt that cannot be encoded is refused before the weights are read.
    ids = _encode(tokenizer, prompt, rules.adds_special_tokens) if isinstance(prompt, str) else rules.chat(prompt, tokenizer)
    model = load_pretrained(folder, dtype, dequantize=dequantize)
    end = _end(tokenizer)
    ids = ids if rules.adds_special_tokens else _as_prompt(model, ids, end)
    stop_tokens = end if rules.stop_tokens is None else rules.stop_tokens
    return _continue(model, tokenizer, ids, stop_tokens, settings, max_new_tokens, stop)


def continue_text(
    model: Decoder | EncoderDecoder,
    tokenizer: tokenizers.Tokenizer,
    prompt: str,
    settings: Sampling,
    max_new_tokens: int,
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """The continuation of ``prompt``, without it, in pieces as they are drawn; a piece never ends inside a character.

    For an encoder-decoder ``prompt`` is the source, ended as in training by the end-of-text token, and the continuation is the
    target. Ids above the tokenizer's, such as sentinels, are never drawn: they have no text.
    Ends before the first of the ``stop`` strings, before the tokenizer's end-of-text token, or after ``max_new_tokens``.
    Raises DataError, at once, for characters the tokenizer does not know, an empty prompt or stop string, a prompt that leaves
    no room for its continuation, and a tokenizer with more tokens than the model.
    """
    end = _end(tokenizer)
    return _continue(model, tokenizer, _as_prompt(model, _encode(tokenizer, prompt), end), end, settings, max_new_tokens, stop)


def _as_prompt(model: Decoder | EncoderDecoder, ids: list[int], end: Sequence[int]) -> list[int]:
    """A source is ended as in training; an empty one stays empty, and is refused."""
    return [*ids, *end] if ids and isinstance(model, EncoderDecoder) else ids


def _continue(
    model: Decoder | EncoderDecoder,
    tokenizer: tokenizers.Tokenizer,
    prompt_ids: list[int],
    stop_tokens: Sequence[int],
    settings: Sampling,
    max_new_tokens: int,
    stop: Sequence[str],
) -> Iterator[str]:
    if "" in stop:
        raise DataError("stop: got an empty string, which would end every text before it begins")
    tokens = stream(
        model,
        prompt_ids,
        settings=settings,
        max_new_tokens=max_new_tokens,
        stop_tokens=stop_tokens,
        num_tokens=max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1,
    )
    before = [] if isinstance(model, EncoderDecoder) else prompt_ids  # the target is a text of its own
    return _until_stop(_decoded(tokenizer, before, tokens), stop)


def _end(tokenizer: tokenizers.Tokenizer) -> list[int]:
    ids = tokenizer.get_vocab(with_added_tokens=True)
    return [ids[name] for name in EOS_NAMES if name in ids][:1]


def _encode(tokenizer: tokenizers.Tokenizer, text: str, add_special_tokens: bool = False) -> list[int]:
    try:
        return tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"the tokenizer does not know every character of {text[:40]!r}: {error}") from error


def _decoded(tokenizer: tokenizers.Tokenizer, before: Sequence[int], tokens: Iterable[int]) -> Iterator[str]:
    """The text of ``tokens`` after those ``before``: decoders treat the first token of a text apart, so a prompt goes first."""
    ids = list(before)
    text = tokenizer.decode(ids, skip_special_tokens=False)
    shown = len(text)
    for token in tokens:
        ids.append(token)
        text = tokenizer.decode(ids, skip_special_tokens=False)
        if not text.endswith("\ufffd"):  # else a character may be incomplete
            yield text[shown:]
            shown = max(shown, len(text))
    yield text[shown:]


def _until_stop(pieces: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """The pieces up to the first of the ``stop`` strings; text that may be the beginning of one is held back."""
    pending = ""
    for piece in pieces:
        pending += piece
        found = [pending.find(text) for text in stop if text in pending]
        if found:
            pending = pending[: min(found)]
            break
        held = max((n for text in stop for n in range(1, len(text)) if pending.endswith(text[:n])), default=0)
        ready = len(pending) - held
        if ready:
            yield pending[:ready]
        pending = pending[ready:]
    if pending:
        yield pending
