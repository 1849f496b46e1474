"""What each objective asks of a model: its logits, what they should say, and what of it counts."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer import config
from jax_transformer.config.tree import nodes
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.loss import next_token_weights

Batch = Mapping[str, Int[Array, "B ..."]] | Mapping[str, Int[np.ndarray, "B ..."]]
"""The arrays of an objective by name, a row each; ``segments`` are 0 where a row is padded."""

Answers = tuple[Int[Array, "B T"], Float[Array, "B T"]]
"""The ids that the logits should say, and how much each counts: 0 where there is nothing to predict."""


Outputs = tuple[Float[Array, "B T V"], dict[str, Any]]
"""Logits, and the auxiliary values of a model."""


class Task(NamedTuple):
    """An objective as two functions of a batch."""

    answers: Callable[[Batch], Answers]
    outputs: Callable[[nnx.Module, Batch, bool, Noise | None], Outputs]
    """``(model, batch, segmented, noise)`` -> logits and what else the model returns; ``segmented``: the model is told where
    documents and padding are."""


def has_segments(run: config.Run) -> bool:
    """Whether a model of this run must be told of segments; in a stream read from left to right nobody sees the padding."""
    text = not isinstance(run.data.source, config.Pairs | config.Labelled)
    if any(isinstance(node, config.Moe) and node.routes_by_batch for node in nodes(run.model)):
        return True  # padding would take places of experts from tokens
    return not (isinstance(run.effective_objective, config.NextToken) and text and run.data.packing == "stream")


def _next_tokens(batch: Batch) -> Answers:
    """Position t predicts position t + 1 of ``tokens``; ``weights``, where there are any, say which tokens count."""
    weights = next_token_weights(jnp.asarray(batch["segments"]))
    if "weights" in batch:
        weights = weights * jnp.asarray(batch["weights"])[:, 1:]
    return jnp.asarray(batch["tokens"])[:, 1:], weights


def _from_before(model: nnx.Module, batch: Batch, segmented: bool, noise: Noise | None) -> Outputs:
    tokens, segments = (jnp.asarray(batch[name])[:, :-1] for name in ("tokens", "segments"))
    return model(tokens, segments=segments if segmented else None, noise=noise)


def _from_source(model: nnx.Module, batch: Batch, segmented: bool, noise: Noise | None) -> Outputs:
    names = ("source", "tokens", "source_segments", "segments")
    source, tokens, source_segments, segments = (jnp.asarray(batch[name]) for name in names)
    told = {"source_segments": source_segments, "segments": segments[:, :-1]} if segmented else {}
    return model(source, tokens[:, :-1], **told, noise=noise)


def _hidden_tokens(batch: Batch) -> Answers:
    return jnp.asarray(batch["targets"]), jnp.asarray(batch["weights"]).astype(jnp.float32)


def _from_around(model: nnx.Module, batch: Batch, segmented: bool, noise: Noise | None) -> Outputs:
    tokens, segments = (jnp.asarray(batch[name]) for name in ("tokens", "segments"))
    return model(tokens, segments=segments if segmented else None, noise=noise)


def _labels(batch: Batch) -> Answers:
    """One per row that holds a text; validation fills its last batch up with rows that hold none."""
    weights = jnp.any(jnp.asarray(batch["segments"]) != 0, axis=1, keepdims=True)
    return jnp.asarray(batch["label"])[:, None], weights.astype(jnp.float32)


def _from_all(model: nnx.Module, batch: Batch, segmented: bool, noise: Noise | None) -> Outputs:
    logits, aux = _from_around(model, batch, segmented, noise)
    return logits[:, None, :], aux


TASK = {
    config.NextToken: Task(_next_tokens, _from_before),
    config.MaskedLm: Task(_hidden_tokens, _from_around),
    config.Classification: Task(_labels, _from_all),
    config.SpanCorruption: Task(_next_tokens, _from_source),
    config.SequenceToSequence: Task(_next_tokens, _from_source),
}
