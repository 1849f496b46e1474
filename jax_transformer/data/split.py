"""The train/validation split: which piece of text is on which side.

A document is cut into pieces of at most ``PIECE_CHARACTERS`` characters, after the last line end that fits (a longer line is
cut inside). A piece's content and the seed give a number that is uniform in [0, 1); the piece is validation iff that is below
the fraction. So the rule works for one document and for millions; a piece stays on its side when text is added elsewhere; and
two equal pieces are never on different sides. The smallest number always is validation and the largest training, so that
a small corpus has both.

A labelled text is one piece, however long. A pair is two, its source and its target; the source decides the side of both, so
that nothing that is read in validation was read in training.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jax_transformer.config import data as config
from jax_transformer.config.errors import DataError
from jax_transformer.data.records import labelled, pairs
from jax_transformer.data.sources import Document, documents

PIECE_CHARACTERS = 4096
NUMBERS = 1 << 64

Side = Literal["train", "validation"]


@dataclass(frozen=True)
class Piece:
    """A stretch of one document; ``last`` if the document ends with it."""

    text: str
    last: bool
    source: str | None = None
    """Of a pair's target: the pair's source, with which it stays."""
    label: int | None = None

    def digest(self) -> bytes:
        """SHA-256 of the text that decides the side."""
        return _sha256(self.text if self.source is None else self.source)

    def rest(self) -> bytes:
        """All that the digest does not tell of the piece."""
        target = b"" if self.source is None else _sha256(self.text)
        return bytes([self.last]) + target + (b"" if self.label is None else self.label.to_bytes(4, "little"))


@dataclass(frozen=True)
class Split:
    """What one reading of a whole source finds: a hash of its content, and where the two sides part."""

    digest: str
    seed: int
    threshold: int

    def side(self, piece_digest: bytes) -> Side:
        """The side of a piece, given its digest."""
        return "validation" if _number(self.seed, piece_digest) < self.threshold else "train"


def pieces(source: config.Source) -> Iterator[Piece]:
    """Every piece of every document, in order; their texts joined are the source's text.

    Raises as ``documents``, ``pairs`` and ``labelled`` do.
    """
    match source:
        case config.Pairs():
            for text, target in pairs(source):
                yield from (Piece(text, last=True), Piece(target, last=True, source=text))
        case config.Labelled():
            yield from (Piece(text, last=True, label=label) for text, label in labelled(source))
        case _:
            for document in documents(source):
                yield from _cut(document)


def survey(source: config.Source, fraction: float, seed: int) -> Split:
    """Read the whole source once and decide the split.

    Raises:
        DataError: no text, or a single piece, which cannot be on two sides; and as ``documents`` does.
    """
    content = ContentHash()
    numbers: set[int] = set()
    characters = 0
    for piece in pieces(source):
        digest = piece.digest()
        content.add(digest, piece.rest())
        number = _number(seed, digest)
        numbers = {min(number, *numbers), max(number, *numbers)} if numbers else {number}
        characters += len(piece.text)
    if characters == 0:
        raise DataError(f"the corpus is empty: data.source (kind {source.kind!r}) holds no text")
    if len(numbers) < 2:
        raise DataError(
            f"the corpus of {characters} characters is too short to split: it is one piece of at most {PIECE_CHARACTERS} "
            "characters (or copies of one), and training and validation need one each; add text to data.source"
        )
    threshold = min(max(int(fraction * NUMBERS), min(numbers) + 1), max(numbers))
    return Split(content.hexdigest(), seed, threshold)


class ContentHash:
    """Hash of a sequence of pieces; equal for equal text in equal documents, pairs or labelled texts."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, piece_digest: bytes, rest: bytes) -> None:
        """Take the next piece in."""
        self._hash.update(piece_digest + rest)

    def hexdigest(self) -> str:
        """Hash of the pieces so far."""
        return self._hash.hexdigest()


def _cut(document: Document) -> Iterator[Piece]:
    """Pieces of one document. An empty document has none."""
    buffer = ""
    for part in document:
        buffer += part
        start = 0
        while len(buffer) - start > PIECE_CHARACTERS:
            end = start + PIECE_CHARACTERS
            end = buffer.rfind("\n", start, end) + 1 or end
            yield Piece(buffer[start:end], last=False)
            start = end
        buffer = buffer[start:]
    if buffer:
        yield Piece(buffer, last=True)


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()


def _number(seed: int, piece_digest: bytes) -> int:
    """Uniform in [0, NUMBERS)."""
    return int.from_bytes(hashlib.sha256(seed.to_bytes(8, "little") + piece_digest).digest()[:8], "little")
