"""Tokenizers: every kind is one ``tokenizers.Tokenizer``, so each travels as one ``tokenizer.json``."""

import os
import re
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from jax_transformer.config import data as config
from jax_transformer.config.errors import DataError
from jax_transformer.config.special_tokens import BOS_NAMES, EOS_NAMES, PAD_NAMES

FILE_NAME = "tokenizer.json"
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


def check_ids(ids: np.ndarray | Sequence[int], vocab_size: int, where: str) -> None:
    """Refuse an id outside ``0 <= id < vocab_size``; on the device it would be clamped or wrapped without a word.

    Raises:
        DataError: naming the first such id and its position.
    """
    array = np.asarray(ids)
    if array.size == 0:
        return
    if array.dtype.kind not in "iu":
        raise DataError(f"{where}: token ids are {array.dtype}; they must be integers")
    bad = np.flatnonzero((array < 0) | (array >= vocab_size))
    if bad.size:
        position = int(bad[0])
        raise DataError(f"{where}: token id {int(array.flat[position])} at position {position} is outside 0..{vocab_size - 1}")


class Tokenizer:
    """Text to token ids and back.

    Special tokens are never read out of text: a text that contains ``<eos>`` gets the tokens of those five characters.
    Nothing is truncated or padded, and nothing added unasked, whatever the file says.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._backend = backend
        names = backend.get_vocab(with_added_tokens=True)
        self._ids = frozenset(names.values())
        # A decoder with byte fallback turns a whole run of byte tokens to U+FFFD when one of them is out of place, so
        # nothing of a run is certain before it ends.
        fallback = "ByteFallback" in repr(backend.decoder)
        self._byte_ids = frozenset(i for name, i in names.items() if fallback and BYTE_TOKEN.fullmatch(name))
        self.vocab_size = max(self._ids, default=-1) + 1
        """One more than the largest id."""
        self.pad_id = _first(names, PAD_NAMES)
        self.bos_id = _first(names, BOS_NAMES)
        self.eos_id = _first(names, EOS_NAMES)

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The library's own tokenizer."""
        return self._backend

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids of ``text``; with ``add_special_tokens``, those that the file puts around it too.

        Raises:
            DataError: a character that the tokenizer does not know, with its code point and position.
        """
        try:
            return self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        except Exception as error:  # the library raises bare Exception
            raise self._unencodable(text, error) from error

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``[encode(text) for text in texts]``, in parallel; raises as ``encode`` does."""
        try:
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception:  # encode again one by one: that names the character
            return [self.encode(text) for text in texts]
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of ``ids``; bytes that are no UTF-8 become U+FFFD, special tokens show as their names.

        Raises:
            DataError: an id without a token (a model's vocabulary may be padded beyond the tokenizer's).
        """
        tokens = [int(token) for token in ids]
        self._check_known(tokens, first_position=0)
        return self._backend.decode(tokens, skip_special_tokens=False)

    def stream(self) -> "Stream":
        """A decoder that takes one id at a time."""
        return Stream(self)

    def to_json(self) -> str:
        """The content of ``tokenizer.json``."""
        return self._backend.to_str(pretty=True)

    def save(self, folder: Path | str) -> Path:
        """Write ``tokenizer.json`` into ``folder`` (whole or not at all) and return its path."""
        path = Path(folder) / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{FILE_NAME}.{uuid.uuid4().hex}")
        try:
            temporary.write_text(self.to_json(), encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def _check_known(self, tokens: Sequence[int], first_position: int) -> None:
        for position, token in enumerate(tokens, first_position):
            if token not in self._ids:
                raise DataError(
                    f"token id {token} at position {position} has no token: the tokenizer has {len(self._ids)} tokens, "
                    f"largest id {self.vocab_size - 1}"
                )

    def _unencodable(self, text: str, error: Exception) -> DataError:
        for position, character in enumerate(text):
            try:
                self._backend.encode(character, add_special_tokens=False)
            except Exception:
                around = text[max(position - 15, 0) : position + 16]
                return DataError(
                    f"character {character!r} (U+{ord(character):04X}) at position {position}, in {around!r}, is not in the "
                    "tokenizer's vocabulary: remove it, or use a byte or bpe tokenizer, which know every character"
                )
        return DataError(f"the tokenizer cannot encode the text: {error}")


class Stream:
    """Text of a growing sequence: the pieces joined, ``finish`` included, equal ``decode`` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._steps = decoders.DecodeStream(skip_special_tokens=False)
        self._ids: list[int] = []
        self._held: list[int] = []
        self._sent = 0

    def push(self, token: int) -> str:
        """The text that ``token`` completes; empty while a character is incomplete. Raises as ``decode`` does."""
        self._tokenizer._check_known([token], first_position=len(self._ids))
        self._ids.append(int(token))
        self._held.append(int(token))
        if token in self._tokenizer._byte_ids:
            return ""
        piece = self._steps.step(self._tokenizer._backend, self._held) or ""
        self._held = []
        self._sent += len(piece)
        return piece

    def finish(self) -> str:
        """What is left when the sequence ends inside a character."""
        return self._tokenizer.decode(self._ids)[self._sent :]


def build_tokenizer(spec: config.Tokenizer, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that ``spec`` describes; char and bpe read ``texts`` once, byte and file do not.

    Raises:
        DataError: no text to learn from, or a tokenizer file that is missing or invalid.
    """
    if isinstance(spec, config.TokenizerFile):
        return load_tokenizer(spec.path)
    if isinstance(spec, config.ByteTokenizer):
        return Tokenizer(_byte())
    backend = _char(texts) if isinstance(spec, config.CharTokenizer) else _bpe(texts, spec.vocab_size)
    return Tokenizer(backend)


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Open a ``tokenizer.json``, or the one inside a folder.

    Raises:
        DataError: it is missing, unreadable or no tokenizer.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / FILE_NAME
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such tokenizer file; name a tokenizer.json or a folder that holds one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot read the tokenizer: {error}") from error
    try:
        backend = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{file}: not a tokenizer.json of the tokenizers library: {error}") from error
    return Tokenizer(backend)


def _char(texts: Iterable[str]) -> tokenizers.Tokenizer:
    characters = sorted(set().union(*texts))
    if not characters:
        raise DataError("a char tokenizer needs text to take its characters from; the corpus is empty")
    # No unknown token: the library then refuses a character that is not in the vocabulary.
    backend = tokenizers.Tokenizer(models.WordLevel({character: i for i, character in enumerate(characters)}))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return backend


def _byte() -> tokenizers.Tokenizer:
    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return backend


def _bpe(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _byte_characters() -> list[str]:
    """The printable character that stands for each byte in byte-level vocabularies (GPT-2's table).

    A byte that is a printable Latin-1 character stands for itself; the others take U+0100, U+0101, ... in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def _first(names: dict[str, int], candidates: Iterable[str]) -> int | None:
    return next((names[name] for name in candidates if name in names), None)
