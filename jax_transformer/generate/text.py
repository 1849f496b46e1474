"""Text in, text out: a model and its tokenizer, in memory or in a folder, streaming a continuation or an answer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from jax_transformer.config import Sampling
from jax_transformer.config.errors import DataError
from jax_transformer.convert.gguf import text_folder
from jax_transformer.convert.hf.chat import Messages
from jax_transformer.convert.hf.texts import read_text_rules
from jax_transformer.convert.pretrained import load_pretrained
from jax_transformer.data.tokenizer import Tokenizer, load_tokenizer
from jax_transformer.generate.engine import stream
from jax_transformer.models.decoder import Decoder
from jax_transformer.models.encoder_decoder import EncoderDecoder


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
    ids = (
        tokenizer.encode(prompt, rules.adds_special_tokens)
        if isinstance(prompt, str)
        else rules.chat(prompt, tokenizer.backend)
    )
    model = load_pretrained(folder, dtype, dequantize=dequantize)
    end = _end(tokenizer)
    ids = ids if rules.adds_special_tokens else _as_prompt(model, ids, end)
    stop_tokens = end if rules.stop_tokens is None else rules.stop_tokens
    return _continue(model, tokenizer, ids, stop_tokens, settings, max_new_tokens, stop)


def continue_text(
    model: Decoder | EncoderDecoder,
    tokenizer: Tokenizer,
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
    return _continue(model, tokenizer, _as_prompt(model, tokenizer.encode(prompt), end), end, settings, max_new_tokens, stop)


def _as_prompt(model: Decoder | EncoderDecoder, ids: list[int], end: Sequence[int]) -> list[int]:
    """A source is ended as in training; an empty one stays empty, and is refused."""
    return [*ids, *end] if ids and isinstance(model, EncoderDecoder) else ids


def _continue(
    model: Decoder | EncoderDecoder,
    tokenizer: Tokenizer,
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
        num_tokens=tokenizer.vocab_size,
    )
    before = [] if isinstance(model, EncoderDecoder) else prompt_ids  # the target is a text of its own
    return _until_stop(_decoded(tokenizer, before, tokens), stop)


def _end(tokenizer: Tokenizer) -> list[int]:
    return [] if tokenizer.eos_id is None else [tokenizer.eos_id]


def _decoded(tokenizer: Tokenizer, before: Sequence[int], tokens: Iterable[int]) -> Iterator[str]:
    """The text of ``tokens`` after those ``before``: decoders treat the first token of a text apart, so a prompt goes first."""
    decoder = tokenizer.stream()
    shown = sum(len(decoder.push(token)) for token in before)
    held = len(tokenizer.decode(before)) - shown
    for token in tokens:
        piece = decoder.push(token)
        yield piece[held:]
        held = max(held - len(piece), 0)
    yield decoder.finish()[held:]


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
