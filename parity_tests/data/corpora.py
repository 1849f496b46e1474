"""Small corpora for the tests of the data floor."""

import random
from pathlib import Path

from jax_transformer.config import (
    BpeTokenizer,
    Builtin,
    ByteTokenizer,
    CharTokenizer,
    Data,
    JsonLines,
    TextFiles,
)
from jax_transformer.data.corpus import Corpus

VOCABULARY = 1000
TOKENIZERS = [CharTokenizer(), ByteTokenizer(), BpeTokenizer(vocab_size=400)]


def prose(path: Path, lines: int = 3000) -> TextFiles:
    words = ["the", "of", "and", "to", "in", "a", "is", "that", "was", "he", "for", "it", "with", "as", "his", "on", "be"]
    draw = random.Random(7)
    path.write_text("".join(" ".join(draw.choices(words, k=8)) + f" {number} ü\r\n" for number in range(lines)))
    return TextFiles(paths=(str(path),))


def config(source: TextFiles | JsonLines | Builtin, **fields: object) -> Data:
    return Data(source=source, **{"sequence_length": 16, **fields})


def texts(corpus: Corpus, rows: object) -> str:
    """The text of a side, stream rows joined without the token they share."""
    parts = [rows[index] for index in range(len(rows))]
    ids = [int(parts[0]["tokens"][0])]
    for row in parts:
        ids += row["tokens"][1:][row["segments"][1:] > 0].tolist()
    return corpus.tokenizer.decode(ids)


def folders(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]
