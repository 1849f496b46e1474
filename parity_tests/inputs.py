"""What goes into both frameworks: weights that hide nothing, packed documents with padding, prompts of different lengths."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from jax_transformer.config import ClassifierHead, Decoder, Encoder, EncoderDecoder, Model
from jax_transformer.convert.hub import numpy_dtype
from parity_tests.measured import Batch, Hub, Plan

LENGTH, SOURCE_LENGTH = 12, 8
DISTINCT = 40
"""A vocabulary from which every token of a batch is another one."""


@dataclass(frozen=True)
class Inputs:
    """Weights (float64) and batches, the same for both frameworks."""

    weights: Hub
    packed: Batch
    ragged: Batch
    training: tuple[Batch, ...]
    """One batch per optimizer step."""


def draw_inputs(config: Model, shapes: Mapping[str, tuple[int, ...]], weights: Hub | None, plan: Plan) -> Inputs:
    """Everything that goes in, from the plan's seed; ``weights`` are perturbed ones unless given."""
    weights = perturb(shapes, plan.seed) if weights is None else cast_all(weights, "float64")
    training = tuple(packed_batch(config, plan.seed + 2 + step) for step in range(plan.steps))
    return Inputs(weights, packed_batch(config, plan.seed), ragged_batch(config, plan.seed + 1), training)


def perturb(shapes: Mapping[str, tuple[int, ...]], seed: int) -> Hub:
    """Float64 hub tensors in which every parameter matters: a norm scale left out, or a bias, changes every result.

    Matrices are normal with variance 1 / fan-in, so that activations keep their size through depth; the embedding has variance
    4 / width, so that a tied head is neither flat nor saturated. Scales are spread around 1, biases around 0.
    """
    rng = np.random.default_rng(seed)
    return {name: _perturbed(name, shape, rng) for name, shape in sorted(shapes.items())}


def _perturbed(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    values = rng.standard_normal(shape)
    if len(shape) == 1:
        return 0.4 * values if name.endswith("bias") else 1.0 + 0.4 * values
    return values * (2.0 if name.endswith("embed.weight") else 1.0) / shape[-1] ** 0.5


def cast_all(weights: Mapping[str, np.ndarray], dtype: str) -> Hub:
    """Every tensor rounded to ``dtype``."""
    return {name: value.astype(numpy_dtype(dtype)) for name, value in weights.items()}


def rounded(weights: Mapping[str, np.ndarray], eps: float, seed: int) -> Hub:
    """Float64 weights, each off by a random relative error of at most ``eps / 2``: what rounding them does."""
    rng = np.random.default_rng(seed)
    return {name: value * (1 + eps * rng.uniform(-0.5, 0.5, value.shape)) for name, value in weights.items()}


def packed_batch(config: Model, seed: int, length: int = LENGTH) -> Batch:
    """Rows of one document, of two and padding, and of three whose numbers are in no order."""
    length = min(config.max_length, length)
    cut = np.linspace(0, length + 1, 5).astype(int)
    index = np.arange(length + 1)
    one = np.ones(length + 1, int)
    two = np.where(index < cut[2], 1, np.where(index < cut[4] - 2, 2, 0))
    three = np.where(index < cut[1], 3, np.where(index < cut[3], 1, 2))
    return _BATCH[type(config)](config, np.stack([one, two, three]).astype(np.int32), np.random.default_rng(seed))


def ragged_batch(config: Model, seed: int) -> Batch:
    """Rows of different lengths, padded on the left: segments are 1, padding 0."""
    length = _length(config) + 1
    padding = np.asarray([0, length // 4, length // 2])
    segments = (np.arange(length)[None, :] >= padding[:, None]).astype(np.int32)
    return _BATCH[type(config)](config, segments, np.random.default_rng(seed))


def _length(config: Model) -> int:
    return min(config.max_length, LENGTH)


def _decoder(config: Decoder, segments: np.ndarray, rng: np.random.Generator) -> Batch:
    tokens = _ids(rng, config.vocab_size, segments.shape)
    inputs = {"tokens": tokens[:, :-1], "segments": segments[:, :-1]} | _types(config, segments[:, :-1], rng)
    return Batch(inputs, tokens[:, 1:], segments=segments)


def _encoder(config: Encoder, segments: np.ndarray, rng: np.random.Generator) -> Batch:
    segments = segments[:, :-1]
    inputs = {"tokens": _ids(rng, config.vocab_size, segments.shape), "segments": segments} | _types(config, segments, rng)
    if isinstance(config.head, ClassifierHead):
        targets = _ids(rng, config.head.num_classes, (len(segments), 1))
        return Batch(inputs, targets, weights=np.ones(targets.shape, np.float32))
    masked = (rng.random(segments.shape) < 0.4) & (segments != 0)
    masked[0, 0] = True  # at least one
    return Batch(inputs, _ids(rng, config.vocab_size, segments.shape), weights=masked.astype(np.float32))


def _encoder_decoder(config: EncoderDecoder, segments: np.ndarray, rng: np.random.Generator) -> Batch:
    """The source has the segments of the target in another order and length; its first row is full."""
    length = min(config.max_source_length, SOURCE_LENGTH)
    index = np.linspace(0, segments.shape[1] - 1, length).astype(int)
    source_segments = segments[:, index[::-1]]
    tokens = _ids(rng, config.vocab_size, segments.shape)
    inputs = {
        "source": _ids(rng, config.vocab_size, source_segments.shape),
        "tokens": tokens[:, :-1],
        "source_segments": source_segments,
        "segments": segments[:, :-1],
    }
    return Batch(inputs, tokens[:, 1:], segments=segments)


_BATCH: dict[type, Callable[..., Batch]] = {Decoder: _decoder, Encoder: _encoder, EncoderDecoder: _encoder_decoder}


def _types(config: Decoder | Encoder, segments: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    count = config.embedding.num_token_types
    return {"token_types": _ids(rng, count, segments.shape)} if count else {}


def _ids(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> np.ndarray:
    if count < math.prod(shape):
        return rng.integers(0, count, shape, dtype=np.int32)
    # All different: of two tokens that are alike in all that a layer knows of them, rounding decides which one an expert takes.
    return rng.permutation(count)[: math.prod(shape)].reshape(shape).astype(np.int32)
