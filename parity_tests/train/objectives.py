"""A small run of every objective."""

import json
from pathlib import Path

from jax_transformer import config
from parity_tests.train.runs import tiny_model

BLOCK = config.Block(
    attention=config.Softmax(num_heads=2, head_dim=10, qkv_bias=True), ffn=config.Mlp(hidden_dim=32), norm=config.LayerNorm()
)
READING = BLOCK.model_copy(update={"cross_attention": config.CrossAttention(num_heads=3, head_dim=6)})
STACK = config.Stack(pattern=(BLOCK,), num_layers=2)
FIELDS = {"vocab_size": 280, "d_model": 16, "max_length": 20}
TOWERS = {
    "encoder": config.Tower(stack=STACK, final_norm=config.RMSNorm()),
    "decoder": config.Tower(stack=config.Stack(pattern=(READING,), num_layers=2), final_norm=config.RMSNorm()),
}
LABELS = ("even", "odd", "zero")

NAMES = (
    "next_token",
    "next_token on target",
    "next_token in a hybrid",
    "masked_lm",
    "masked_lm in documents",
    "classification",
    "span_corruption",
    "seq2seq",
)


def encoder(head: config.EncoderHead) -> config.Encoder:
    """A bidirectional model with ``head``."""
    return config.Encoder(stack=STACK, final_norm=config.LayerNorm(), head=head, **FIELDS)


def encoder_decoder() -> config.EncoderDecoder:
    """A model whose source and target have different limits."""
    return config.EncoderDecoder(max_source_length=30, start_token=3, **TOWERS, **FIELDS)


def hybrid() -> config.Decoder:
    """Three Gated DeltaNets to one gated softmax attention."""
    delta = config.GatedDelta(num_key_heads=2, num_value_heads=4, key_dim=6, v_dim=5, chunk=8)
    gated = config.Softmax(num_heads=4, num_kv_heads=2, head_dim=6, output_gate="element")
    pattern = tuple(BLOCK.model_copy(update={"attention": own}) for own in (delta, gated))
    stack = config.Stack(pattern=pattern, hybrid_ratio=3, num_layers=4)
    return tiny_model(stack=stack)


def objective_run(name: str, folder: Path, **train: object) -> config.Run:
    """The run of one of ``NAMES``; what it reads is written to ``folder``."""
    decoder = tiny_model(stack=STACK)
    pairs, labelled = _pairs(folder), _labelled(folder)
    classifier = encoder(config.ClassifierHead(num_classes=3, pool="mean", dropout=0.1))
    masked = encoder(config.MlmHead())
    on_target = config.NextToken(loss_on="target")
    parts: dict[str, tuple[config.Model, config.Objective | None, dict[str, object]]] = {
        "next_token": (decoder, None, {}),
        "next_token on target": (decoder, on_target, {"source": pairs, "sequence_length": 20, "packing": "documents"}),
        "next_token in a hybrid": (hybrid(), None, {"packing": "documents"}),
        "masked_lm": (masked, None, {}),
        "masked_lm in documents": (masked, config.MaskedLm(probability=0.3), {"packing": "documents"}),
        "classification": (classifier, None, {"source": labelled}),
        "span_corruption": (encoder_decoder(), None, {"sequence_length": 30}),
        "seq2seq": (encoder_decoder(), None, {"source": pairs, "target_length": 7}),
    }
    model, objective, data = parts[name]
    fields: dict[str, object] = {"steps": 8, "warmup_steps": 2, "batch_size": 16, "log_every": 1, "evaluate_every": 4}
    return config.Run(
        model=model,
        objective=objective,
        data=config.Data(**({"sequence_length": 12} | data)),
        train=config.Train(**(fields | {"evaluate_batches": 2, "learning_rate": 1e-2} | train)),
        checkpoints=config.Checkpoints(every=3, keep_last=9),
    )


def _pairs(folder: Path) -> config.Pairs:
    """Words and their letters in reverse order."""
    words = [f"{number:03d}abc"[number % 3 :] for number in range(300)]
    path = folder / "pairs.tsv"
    path.write_text("source\ttarget\n" + "".join(f"{word}\t{word[::-1]}\n" for word in words))
    return config.Pairs(paths=(str(path),))


def _labelled(folder: Path) -> config.Labelled:
    """Numbers and what they are."""
    lines = [{"text": f"number {number}", "label": LABELS[number % 2] if number else "zero"} for number in range(300)]
    path = folder / "labelled.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return config.Labelled(paths=(str(path),), labels=LABELS)
