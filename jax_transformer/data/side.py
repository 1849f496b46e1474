"""The files of one side of a corpus, and the rows that an objective reads from them."""

from pathlib import Path

import numpy as np

from jax_transformer.config import data as config
from jax_transformer.config.errors import DataError
from jax_transformer.config.fit import target_length
from jax_transformer.config.objective import NextToken, Objective, SequenceToSequence, SpanCorruption
from jax_transformer.data.examples import Documents, LabelledRows, PromptRows, SourceTargetRows
from jax_transformer.data.packing import DocumentRows, Rows, StreamRows, TokenFile
from jax_transformer.data.split import Side


class SideFiles:
    """``<side>.tokens``; ``<side>.ends``, where each document ends; and ``<side>.labels`` of labelled texts."""

    def __init__(self, folder: Path, side: Side, dtype: str) -> None:
        self.side = side
        self.tokens = TokenFile(folder / f"{side}.tokens", dtype)
        self.ends = np.fromfile(folder / f"{side}.ends", "<i8")
        labels = folder / f"{side}.labels"
        self.labels = np.fromfile(labels, "<i4") if labels.exists() else None


def build_rows(files: SideFiles, data: config.Data, objective: Objective, start_token: int) -> Rows:
    """The rows that ``objective`` reads, of text before it is corrupted.

    Raises:
        DataError: less text than one row.
    """
    if not isinstance(data.source, config.Pairs | config.Labelled):
        return _text_rows(files, data, objective)
    texts = Documents(files.tokens, files.ends)
    match objective:
        case NextToken():
            return PromptRows(texts, data.sequence_length, data.packing == "documents", objective.loss_on == "target")
        case SequenceToSequence():
            return SourceTargetRows(texts, data.sequence_length, target_length(objective, data), start_token)
    assert files.labels is not None
    return LabelledRows(texts, files.labels, data.sequence_length)


def _text_rows(files: SideFiles, data: config.Data, objective: Objective) -> Rows:
    """Rows of running text; those of the next token share one token, so that each but the first is a target."""
    overlap = int(isinstance(objective, NextToken))
    length, name = data.sequence_length, f"data.sequence_length + {overlap}" if overlap else "data.sequence_length"
    if isinstance(objective, SpanCorruption):
        length, name = objective.text_length(length), f"the text that fits data.sequence_length={length}"
    rows: Rows = StreamRows(files.tokens, length, overlap)
    if data.packing == "documents":
        rows = DocumentRows(files.tokens, files.ends, length, overlap)
    if len(files.tokens) < length + overlap or len(rows) == 0:
        more = "" if files.side == "train" else f", raise data.validation_fraction={data.validation_fraction}"
        raise DataError(
            f"the {files.side} split has {len(files.tokens)} tokens, too few for one row of {name} = {length + overlap}: "
            f"add text{more}, or shorten data.sequence_length"
        )
    return rows
