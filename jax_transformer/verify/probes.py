"""What both sides are asked: token ids of three lengths, each beyond a place where models go wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jax_transformer.config import Encoder, EncoderDecoder, Model, Rope
from jax_transformer.config.tree import nodes

SHORT, MIDDLE, LONG = 8, 24, 48
"""Lengths where the model has no window and no original context to go beyond."""

LOCAL = ("window", "chunk_size")
"""Fields that bound what a token sees."""

BEYOND = 4
"""Tokens beyond a window or a context."""

SINGLE = 6
"""Tokens that a cache takes one at a time, after the rest at once."""


@dataclass(frozen=True)
class Probe:
    """One question: arguments of the model by name."""

    name: str
    inputs: dict[str, np.ndarray]
    note: str = ""
    """What the length was to reach and did not."""

    @property
    def length(self) -> int:
        """Tokens of a row."""
        return self.inputs["tokens"].shape[1]


def make_probes(config: Model, longest: int, avoid: Sequence[int], seed: int) -> list[Probe]:
    """Random ids, none of ``avoid``, in rows that are short, longer than the smallest window, and longer than the context of
    the original training; at most ``longest`` tokens, and at most what the model accepts."""
    windows = [size for node in nodes(config) for size in (getattr(node, name, None) for name in LOCAL) if size]
    contexts = [node.original_length for node in nodes(config) if hasattr(node, "original_length")]
    aims = {
        "short": (SHORT, ""),
        "beyond the window": (min(windows) + BEYOND, "") if windows else (MIDDLE, "no window"),
        "beyond the original context": (max(contexts) + BEYOND, "") if contexts else (LONG, "no original context"),
    }
    rng = np.random.default_rng(seed)
    limit = min(longest, config.max_length)
    probes = []
    for name, (aim, note) in aims.items():
        clipped = f"{aim} tokens wanted, at most {limit} possible" if aim > limit and not note else note
        probes.append(Probe(name, _inputs(config, min(aim, limit), avoid, rng), clipped))
    return probes


def decoding_probe(config: Model, probes: Sequence[Probe]) -> Probe | None:
    """What is read through a cache: the probe beyond the window, cut to where no rotation depends on the length, since a cache
    keeps those of the lengths at which its tokens came. None for an encoder, which has no cache."""
    if isinstance(config, Encoder):
        return None
    probe = probes[1]
    rotations = [node for node in nodes(config) if isinstance(node, Rope)]
    length = probe.length
    while length > 2 and any(rotation.depends_on_length(length) for rotation in rotations):
        length -= 1
    cut = {name: value if name == "source" else value[:, :length] for name, value in probe.inputs.items()}
    return Probe(probe.name, cut, probe.note)


def read_at_once(length: int) -> int:
    """How many of a probe's tokens a cache takes in its first step."""
    return max(1, length - SINGLE)


def _inputs(config: Model, length: int, avoid: Sequence[int], rng: np.random.Generator) -> dict[str, np.ndarray]:
    ids = np.setdiff1d(np.arange(config.vocab_size), np.array(avoid, int))
    rows = 2 if length <= LONG else 1  # the logits of long rows are large

    def draw(size: int) -> np.ndarray:
        return rng.choice(ids, (rows, size))

    inputs = {"tokens": draw(length)}
    if isinstance(config, EncoderDecoder):
        return {"source": draw(max(1, min(length - 1, config.max_source_length)))} | inputs
    if types := config.embedding.num_token_types:
        inputs["token_types"] = rng.integers(0, types, (rows, length))
    return inputs
