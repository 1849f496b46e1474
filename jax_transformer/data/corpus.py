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
from jax_transformer.config.fit import special_ids
from jax_transformer.config.objective import NextToken, Objective
from jax_transformer.data.cache import MANIFEST, cached_folder
from jax_transformer.data.noise import Corrupt, CorruptedRows, corruption
from jax_transformer.data.packing import Rows
from jax_transformer.data.side import SideFiles, build_rows
from jax_transformer.data.split import ContentHash, Piece, Side, Split, pieces, survey
from jax_transformer.data.tokenizer import Tokenizer, build_tokenizer, check_ids, load_tokenizer

FORMAT = 1
"""Part of every cache key: raise it when the same config must give other files."""
PIECES_PER_CALL = 256
NEXT_TOKEN = NextToken()


@dataclass(frozen=True)
class Corpus:
    """Both sides of a corpus as rows of an objective."""

    tokenizer: Tokenizer
    train: Rows
    validation: Rows
    fingerprint: str
    """Hash of all that decides the rows and their order: equal fingerprints, equal batches."""
    corrupt: Corrupt | None = None
    """What is done to a row of ``train`` each time that it is read; rows of ``validation`` come corrupted."""


def open_corpus(
    data: config.Data, cache: Path, vocab_size: int, objective: Objective = NEXT_TOKEN, start_token: int = 0
) -> Corpus:
    """The corpus that ``data`` describes; tokenised into ``cache`` unless it is there already.

    The source is read in full each time, so that a changed text is noticed (about 12 seconds per GB), but never held in memory.
    ``start_token`` is the first of every row that an encoder-decoder's decoder reads.

    Raises:
        DataError: a source that cannot be read or is empty, a tokenizer with more tokens than ``vocab_size``, a split too
            small for one row, or a cache that cannot be written.
    """
    split = survey(data.source, data.validation_fraction, data.seed)

    def build(folder: Path) -> None:
        _tokenise(data, split, vocab_size, folder)

    folder = cached_folder(Path(cache), _cache_key(data, split), build)
    tokenizer = load_tokenizer(folder)
    _check_vocabulary(tokenizer, vocab_size, special_ids(objective, data))
    files = (SideFiles(folder, side, _dtype(tokenizer)) for side in get_args(Side))
    train, validation = (build_rows(each, data, objective, start_token) for each in files)
    corrupt = corruption(objective, data, tokenizer.vocab_size, vocab_size, start_token)
    if corrupt is not None:
        validation = CorruptedRows(validation, corrupt, data.seed)
    fingerprint = _fingerprint(data, folder, objective, {"vocab_size": vocab_size, "start_token": start_token})
    return Corpus(tokenizer, train, validation, fingerprint, corrupt)


def _cache_key(data: config.Data, split: Split) -> str:
    spec = data.tokenizer.model_dump()
    if isinstance(data.tokenizer, config.TokenizerFile):
        spec = {"content": load_tokenizer(data.tokenizer.path).to_json()}
    parts = [FORMAT, tokenizers.__version__, split.digest, split.seed, split.threshold, spec]
    if isinstance(data.source, config.Pairs | config.Labelled):
        parts.append(data.source.kind)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _fingerprint(data: config.Data, folder: Path, objective: Objective, ids: dict[str, int]) -> str:
    """``ids``: what of the model decides the ids in a row, where more than the text does."""
    manifest = (folder / MANIFEST).read_text(encoding="utf-8")
    parts = [manifest, data.packing, data.sequence_length, data.seed]
    if objective != NEXT_TOKEN:
        parts += [objective.model_dump(), data.target_length, ids]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _check_vocabulary(tokenizer: Tokenizer, vocab_size: int, special: int = 0) -> None:
    """``special``: ids above the tokenizer's that the objective takes."""
    needed = tokenizer.vocab_size + special
    if needed > vocab_size:
        more = f" and the objective needs {special} more ids," if special else ""
        raise DataError(
            f"the tokenizer's largest token id is {tokenizer.vocab_size - 1}{more} but model.vocab_size={vocab_size}: "
            f"set model.vocab_size to at least {needed}"
        )


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
            content.add(digest, piece.rest())
            writer = sides[split.side(digest)]
            if previous is not None and previous is not writer:
                previous.end_document()  # the rest of the document is on the other side
            writer.add(ids, piece.last)
            if piece.label is not None:
                writer.label(piece.label)
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
        self._labels_path = folder / f"{side}.labels"
        self._labels = array("i")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._tokens.close()
        np.asarray(self._ends, "<i8").tofile(self._ends_path)
        if self._labels:
            np.asarray(self._labels, "<i4").tofile(self._labels_path)

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

    def label(self, number: int) -> None:
        """The label of the document that has just ended."""
        self._labels.append(number)


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
