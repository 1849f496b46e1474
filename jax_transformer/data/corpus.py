"""A corpus: text tokenised once into a cache, then served as rows."""

import hashlib
import json
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self, get_args

import numpy as np
import tokenizers

from jax_transformer.config import data as config
from jax_transformer.config.errors import DataError
from jax_transformer.data.cache import MANIFEST, cached_folder
from jax_transformer.data.packing import DocumentRows, Rows, StreamRows, TokenFile
from jax_transformer.data.split import ContentHash, Piece, Side, Split, pieces, survey
from jax_transformer.data.tokenizer import Tokenizer, build_tokenizer, check_ids, load_tokenizer

FORMAT = 1
"""Part of every cache key: raise it when the same config must give other files."""
PIECES_PER_CALL = 256


@dataclass(frozen=True)
class Corpus:
    """Both sides of a corpus as rows of ``sequence_length + 1`` tokens."""

    tokenizer: Tokenizer
    train: Rows
    validation: Rows
    fingerprint: str
    """Hash of all that decides the rows and their order: equal fingerprints, equal batches."""


def open_corpus(data: config.Data, cache: Path, vocab_size: int) -> Corpus:
    """The corpus that ``data`` describes; tokenised into ``cache`` unless it is there already.

    The source is read in full each time, so that a changed text is noticed (about 12 seconds per GB), but never held in memory.

    Raises:
        DataError: a source that cannot be read or is empty, a tokenizer with more tokens than ``vocab_size``, a split too
            small for one row, or a cache that cannot be written.
    """
    split = survey(data.source, data.validation_fraction, data.seed)

    def build(folder: Path) -> None:
        _tokenise(data, split, vocab_size, folder)

    folder = cached_folder(Path(cache), _cache_key(data, split), build)
    tokenizer = load_tokenizer(folder)
    _check_vocabulary(tokenizer, vocab_size)
    train, validation = (_rows(data, folder, side, tokenizer) for side in get_args(Side))
    return Corpus(tokenizer, train, validation, _fingerprint(data, folder))


def _cache_key(data: config.Data, split: Split) -> str:
    spec = data.tokenizer.model_dump()
    if isinstance(data.tokenizer, config.TokenizerFile):
        spec = {"content": load_tokenizer(data.tokenizer.path).to_json()}
    parts = [FORMAT, tokenizers.__version__, split.digest, split.seed, split.threshold, spec]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _fingerprint(data: config.Data, folder: Path) -> str:
    manifest = (folder / MANIFEST).read_text(encoding="utf-8")
    parts = [manifest, data.packing, data.sequence_length, data.seed]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _check_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> None:
    if tokenizer.vocab_size > vocab_size:
        raise DataError(
            f"the tokenizer's largest token id is {tokenizer.vocab_size - 1} but model.vocab_size={vocab_size}: "
            f"set model.vocab_size to at least {tokenizer.vocab_size}"
        )


def _rows(data: config.Data, folder: Path, side: Side, tokenizer: Tokenizer) -> Rows:
    tokens = TokenFile(folder / f"{side}.tokens", _dtype(tokenizer))
    length = data.sequence_length
    rows: Rows = StreamRows(tokens, length)
    if data.packing == "documents":
        rows = DocumentRows(tokens, np.fromfile(folder / f"{side}.ends", "<i8"), length)
    if len(tokens) <= length or len(rows) == 0:
        more = "" if side == "train" else f", raise data.validation_fraction={data.validation_fraction}"
        raise DataError(
            f"the {side} split has {len(tokens)} tokens, too few for one row of data.sequence_length + 1 = {length + 1}: "
            f"add text{more}, or shorten data.sequence_length"
        )
    return rows


def _dtype(tokenizer: Tokenizer) -> str:
    return "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"


def _tokenise(data: config.Data, split: Split, vocab_size: int, folder: Path) -> None:
    """Write ``tokenizer.json`` and, for each side, its tokens and the end of each document."""
    tokenizer = build_tokenizer(data.tokenizer, _training_texts(data, split))
    _check_vocabulary(tokenizer, vocab_size)
    tokenizer.save(folder)
    content = ContentHash()
    with ExitStack() as stack:
        sides = {side: stack.enter_context(_SideWriter(folder, side, tokenizer)) for side in get_args(Side)}
        previous: _SideWriter | None = None
        for piece, ids in _encoded(data, tokenizer):
            check_ids(ids, vocab_size, f"the tokens of {piece.text[:40]!r}")
            digest = piece.digest()
            content.add(digest, piece.last)
            writer = sides[split.side(digest)]
            if previous is not None and previous is not writer:
                previous.end_document()  # the rest of the document is on the other side
            writer.add(ids, piece.last)
            previous = None if piece.last else writer
    if content.hexdigest() != split.digest:
        raise DataError("data.source changed while it was being read; start again when nothing writes to it")


class _SideWriter:
    """The growing files of one side."""

    def __init__(self, folder: Path, side: Side, tokenizer: Tokenizer) -> None:
        self._dtype = _dtype(tokenizer)
        self._end_of_document = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
        self._tokens = (folder / f"{side}.tokens").open("wb")
        self._ends_path = folder / f"{side}.ends"
        self._ends = array("q")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._tokens.close()
        np.asarray(self._ends, "<i8").tofile(self._ends_path)

    def add(self, ids: list[int], last: bool) -> None:
        """Append to the document at hand; ``last``: it ends here, with the end-of-text token if there is one."""
        ids = ids + self._end_of_document if last else ids
        self._tokens.write(np.asarray(ids, self._dtype).tobytes())
        self._count += len(ids)
        if last:
            self.end_document()

    def end_document(self) -> None:
        """The next token belongs to another document."""
        self._ends.append(self._count)


def _encoded(data: config.Data, tokenizer: Tokenizer) -> Iterator[tuple[Piece, list[int]]]:
    stream = pieces(data.source)
    while batch := list(islice(stream, PIECES_PER_CALL)):
        yield from zip(batch, tokenizer.encode_batch([piece.text for piece in batch]), strict=True)


def _training_texts(data: config.Data, split: Split) -> Iterator[str]:
    """What a tokenizer may learn from: the training side; for characters both, so that validation has no unknown one."""
    everything = isinstance(data.tokenizer, config.CharTokenizer)
    for piece in pieces(data.source):
        if everything or split.side(piece.digest()) == "train":
            yield piece.text
