"""Which objective a run has, and which combinations of objective, model and data are refused, with what to change."""

from typing import Any

import pytest

from jax_transformer.config import Run
from jax_transformer.config.errors import ConfigError
from jax_transformer.config.load import make_config

BLOCK = {
    "attention": {"kind": "softmax", "num_heads": 2, "head_dim": 8},
    "ffn": {"kind": "mlp", "hidden_dim": 32},
    "norm": {"kind": "rms_norm"},
}
READING = BLOCK | {"cross_attention": {"num_heads": 2, "head_dim": 8}}
NORM = {"kind": "rms_norm"}


def tower(block: dict[str, Any]) -> dict[str, Any]:
    return {"stack": {"num_layers": 1, "pattern": [block]}, "final_norm": NORM}


SIZES = {"vocab_size": 300, "d_model": 16, "max_length": 64}
DECODER = {"kind": "decoder"} | SIZES | tower(BLOCK)
ENCODER = {"kind": "encoder"} | SIZES | tower(BLOCK)
CLASSIFIER = ENCODER | {"head": {"kind": "classifier", "num_classes": 2}}
BOTH = {"kind": "encoder_decoder", "max_source_length": 100, "encoder": tower(BLOCK), "decoder": tower(READING)} | SIZES
PAIRS = {"kind": "pairs", "paths": ["a.tsv"]}
LABELLED = {"kind": "labelled", "paths": ["a.tsv"], "labels": ["no", "yes"]}
ON_TARGET = {"kind": "next_token", "loss_on": "target"}


def run(model: dict[str, Any], objective: dict[str, Any] | str | None = None, **data: Any) -> Run:
    objective = {"kind": objective} if isinstance(objective, str) else objective
    values = {
        "model": model,
        "data": {"sequence_length": 64} | data,
        "train": {"steps": 200, "batch_size": 8},
    }
    return make_config(Run, values | ({} if objective is None else {"objective": objective}), "test")


@pytest.mark.parametrize(
    ("model", "data", "kind"),
    [
        (DECODER, {}, "next_token"),
        (DECODER, {"source": PAIRS}, "next_token"),
        (ENCODER, {}, "masked_lm"),
        (CLASSIFIER, {"source": LABELLED}, "classification"),
        (BOTH, {"sequence_length": 100}, "span_corruption"),
        (BOTH, {"source": PAIRS}, "seq2seq"),
    ],
)
def test_a_run_without_an_objective_has_that_of_its_model_and_data(model: Any, data: Any, kind: str):
    implied = run(model, **data)
    assert implied.effective_objective.kind == kind
    assert run(model, kind, **data).effective_objective == implied.effective_objective


@pytest.mark.parametrize(
    ("model", "objective", "data", "reason"),
    [
        (DECODER, "masked_lm", {}, "objective: masked_lm is nothing that a model of kind decoder predicts: use next_token"),
        (DECODER, "seq2seq", {"source": PAIRS}, "seq2seq is nothing that a model of kind decoder predicts"),
        (ENCODER, "next_token", {}, "a model of kind encoder with a mlm head predicts: use masked_lm"),
        (ENCODER, "classification", {"source": LABELLED}, "of kind encoder with a mlm head predicts: use masked_lm"),
        (CLASSIFIER, "masked_lm", {}, "of kind encoder with a classifier head predicts: use classification"),
        (BOTH, "next_token", {}, "of kind encoder_decoder predicts: use span_corruption or seq2seq"),
        (BOTH, "seq2seq", {}, "seq2seq needs data.source of kind pairs, got builtin"),
        (BOTH, "span_corruption", {"source": PAIRS}, "needs data.source of kind builtin, shakespeare, text, jsonl, got pairs"),
        (DECODER, ON_TARGET, {}, "next_token with loss_on=target needs data.source of kind pairs, got builtin"),
        (DECODER, None, {"source": LABELLED}, "next_token needs data.source of kind .* or pairs, got labelled"),
        (ENCODER, None, {"source": PAIRS}, "masked_lm needs data.source of kind .*, got pairs"),
        (CLASSIFIER, None, {}, "classification needs data.source of kind labelled, got builtin"),
        (CLASSIFIER, None, {"source": LABELLED | {"labels": ["a", "b", "c"]}}, "3 names but model.head.num_classes=2"),
        (CLASSIFIER, None, {"source": LABELLED | {"labels": ["a", "a"]}}, "labels: 'a' stands there twice"),
        (CLASSIFIER, None, {"source": LABELLED, "packing": "documents"}, "documents: classification gives each line a row"),
        (BOTH, None, {"packing": "documents"}, "packing=documents: span_corruption corrupts a row as one stretch"),
        (BOTH, None, {"source": PAIRS, "packing": "documents"}, "packing=documents: seq2seq gives each line a row of its own"),
        (ENCODER, {"kind": "masked_lm", "mask": 0.8, "random": 0.3}, {}, r"mask=0.8 \+ random=0.3 is above 1"),
        (ENCODER, None, {"sequence_length": 65}, "data.sequence_length=65 is above model.max_length=64"),
        (BOTH, None, {"sequence_length": 101}, "data.sequence_length=101 is above model.max_source_length=100"),
        (BOTH, None, {"target_length": 9}, "data.target_length=9: the target of span_corruption follows from"),
        (DECODER, None, {"target_length": 9}, "data.target_length=9: the target of next_token does not exist"),
        (BOTH, None, {"source": PAIRS, "sequence_length": 80}, "seq2seq has targets of 80 tokens .* above model.max_length=64"),
        (BOTH, {"kind": "span_corruption", "noise_density": 0.5}, {"sequence_length": 100}, "targets of .* above model"),
        (ENCODER | {"vocab_size": 259}, None, {}, "has 259 tokens, masked_lm needs 1 ids above .* at least 260"),
        (BOTH | {"vocab_size": 262}, None, {}, "259 tokens, span_corruption needs 5 ids above them .* at least 264"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_with_what_to_change(model: Any, objective: Any, data: Any, reason: str):
    with pytest.raises(ConfigError, match=reason):
        run(model, objective, **data)


def test_the_ids_and_lengths_that_are_just_enough_are_accepted():
    run(ENCODER | {"vocab_size": 260})
    run(BOTH | {"vocab_size": 264})
    run(BOTH, source=PAIRS, sequence_length=100, target_length=64)
    run(DECODER, ON_TARGET, source=PAIRS, packing="documents")
