"""What goes into both frameworks: weights that hide nothing, packed documents with padding, prompts of different lengths."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jax_transformer.config import Decoder
from jax_transformer.convert.hub import numpy_dtype
from parity_tests.measured import Batch, Hub, Plan

LENGTH = 11


@dataclass(frozen=True)
class Inputs:
    """Weights (float64) and batches, the same for both frameworks."""

    weights: Hub
    packed: Batch
    ragged: Batch
    training: tuple[Batch, ...]
    """One batch per optimizer step."""


def draw_inputs(config: Decoder, shapes: Mapping[str, tuple[int, ...]], weights: Hub | None, plan: Plan) -> Inputs:
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
    return values * (2.0 if name == "embed.weight" else 1.0) / shape[-1] ** 0.5


def cast_all(weights: Mapping[str, np.ndarray], dtype: str) -> Hub:
    """Every tensor rounded to ``dtype``."""
    return {name: value.astype(numpy_dtype(dtype)) for name, value in weights.items()}


def rounded(weights: Mapping[str, np.ndarray], eps: float, seed: int) -> Hub:
    """Float64 weights, each off by a random relative error of at most ``eps / 2``: what rounding them does."""
    rng = np.random.default_rng(seed)
    return {name: value * (1 + eps * rng.uniform(-0.5, 0.5, value.shape)) for name, value in weights.items()}


def packed_batch(config: Decoder, seed: int) -> Batch:
    """Rows of one document, of two and padding, and of three whose numbers are in no order."""
    rng = np.random.default_rng(seed)
    length = min(config.max_length, LENGTH) + 1
    cut = np.linspace(0, length, 5).astype(int)
    index = np.arange(length)
    one = np.ones(length, int)
    two = np.where(index < cut[2], 1, np.where(index < cut[4] - 2, 2, 0))
    three = np.where(index < cut[1], 3, np.where(index < cut[3], 1, 2))
    segments = np.stack([one, two, three]).astype(np.int32)
    return Batch(_tokens(rng, config, segments.shape), segments)


def ragged_batch(config: Decoder, seed: int) -> Batch:
    """Rows of different lengths, padded on the left: segments are 1, padding 0."""
    rng = np.random.default_rng(seed)
    length = min(config.max_length, LENGTH) + 1
    padding = np.asarray([0, length // 4, length // 2])
    segments = (np.arange(length)[None, :] >= padding[:, None]).astype(np.int32)
    return Batch(_tokens(rng, config, segments.shape), segments)


def _tokens(rng: np.random.Generator, config: Decoder, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, config.vocab_size, shape, dtype=np.int32)
