"""Whether an objective, a model and its data go together, and the objective that a model and its data stand for."""

from jax_transformer.config.data import Data, Labelled, Pairs
from jax_transformer.config.head import ClassifierHead
from jax_transformer.config.model import Decoder, Encoder, EncoderDecoder, Model
from jax_transformer.config.objective import (
    Classification,
    MaskedLm,
    NextToken,
    Objective,
    SequenceToSequence,
    SpanCorruption,
)


def default_objective(model: Model, data: Data) -> Objective:
    """What is trained where a run names no objective."""
    match model:
        case Decoder():
            return NextToken()
        case Encoder():
            return Classification() if isinstance(model.head, ClassifierHead) else MaskedLm()
        case EncoderDecoder():
            return SequenceToSequence() if isinstance(data.source, Pairs) else SpanCorruption()


def check_objective(objective: Objective, model: Model, data: Data) -> None:
    """ValueError, naming what to change, where the model cannot learn the objective or the data does not hold it."""
    possible = _possible(model)
    if objective.kind not in possible:
        head = f" with a {model.head.kind} head" if isinstance(model, Encoder) else ""
        raise ValueError(
            f"objective: {objective.kind} is nothing that a model of kind {model.kind}{head} predicts: use "
            f"{' or '.join(possible)}, or another model.kind or model.head"
        )
    wanted = _sources(objective)
    source = data.source.kind if isinstance(data.source, Pairs | Labelled) else "text"
    if source not in wanted:
        raise ValueError(
            f"objective: {_named(objective)} needs data.source of kind {' or '.join(map(_kinds, wanted))}, got "
            f"{data.source.kind}: change data.source or the objective"
        )
    if data.packing == "documents" and not isinstance(objective, NextToken | MaskedLm):
        reason = "corrupts a row as one stretch of text" if source == "text" else "gives each line a row of its own"
        raise ValueError(f"data.packing=documents: {objective.kind} {reason}; use packing: stream")
    if isinstance(data.source, Labelled) and isinstance(model, Encoder) and isinstance(model.head, ClassifierHead):
        _check_labels(data.source, model.head)


def check_lengths(objective: Objective, model: Model, data: Data) -> None:
    """ValueError where a row is longer than the model reads, or has a length that does not exist."""
    limit = "max_source_length" if isinstance(model, EncoderDecoder) else "max_length"
    longest = getattr(model, limit)
    if data.sequence_length > longest:
        raise ValueError(
            f"data.sequence_length={data.sequence_length} is above model.{limit}={longest}: "
            "shorten the rows or raise the model's limit"
        )
    if data.target_length is not None and not isinstance(objective, SequenceToSequence):
        follows = "follows from data.sequence_length" if isinstance(objective, SpanCorruption) else "does not exist"
        raise ValueError(f"data.target_length={data.target_length}: the target of {objective.kind} {follows}; leave it out")
    target = target_length(objective, data)
    if isinstance(model, EncoderDecoder) and target > model.max_length:
        raise ValueError(
            f"{objective.kind} has targets of {target} tokens (data.target_length, or by data.sequence_length), above "
            f"model.max_length={model.max_length}: shorten them or raise the model's limit"
        )


def target_length(objective: Objective, data: Data) -> int:
    """Tokens that the decoder of an encoder-decoder reads per row."""
    if isinstance(objective, SpanCorruption):
        return objective.target_length(data.sequence_length)
    return data.target_length or data.sequence_length


def special_ids(objective: Objective, data: Data) -> int:
    """How many ids at the top of the model's vocabulary, above the tokenizer's, the objective takes for itself."""
    if isinstance(objective, SpanCorruption):
        return objective.counts(objective.text_length(data.sequence_length))[1] + 1
    return int(isinstance(objective, MaskedLm))


def _possible(model: Model) -> tuple[str, ...]:
    match model:
        case Decoder():
            return ("next_token",)
        case Encoder():
            return ("classification",) if isinstance(model.head, ClassifierHead) else ("masked_lm",)
        case EncoderDecoder():
            return ("span_corruption", "seq2seq")


def _sources(objective: Objective) -> tuple[str, ...]:
    match objective:
        case NextToken(loss_on="target") | SequenceToSequence():
            return ("pairs",)
        case NextToken():
            return ("text", "pairs")
        case Classification():
            return ("labelled",)
    return ("text",)


def _kinds(source: str) -> str:
    return "builtin, shakespeare, text, jsonl" if source == "text" else source


def _named(objective: Objective) -> str:
    return (
        "next_token with loss_on=target"
        if isinstance(objective, NextToken) and objective.loss_on == "target"
        else objective.kind
    )


def _check_labels(source: Labelled, head: ClassifierHead) -> None:
    if len(source.labels) != head.num_classes:
        raise ValueError(
            f"data.source.labels has {len(source.labels)} names but model.head.num_classes={head.num_classes}: they must "
            "be one for one"
        )
