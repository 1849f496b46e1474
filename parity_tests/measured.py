"""What one framework is asked for, and what it answers: the same records from both, in numpy and under hub names."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jax_transformer.config import AdamW, Train

Hub = dict[str, np.ndarray]
"""Tensors by hub name."""


@dataclass(frozen=True)
class Batch:
    """What a model is called with, and what it should answer; all of it in numpy."""

    inputs: dict[str, np.ndarray]
    """Arguments of the model by name; leaving out those that are ``segments`` means no padding and no packing."""
    targets: np.ndarray
    """Ids [B, T], or classes [B, 1]."""
    segments: np.ndarray | None = None
    """[B, T + 1] of a next-token loss, which derives from them which targets count."""
    weights: np.ndarray | None = None
    """[B, T] of any other loss."""

    @property
    def real(self) -> np.ndarray:
        """Where the model's tokens are no padding."""
        return self.inputs["segments"] != 0

    def plain(self) -> dict[str, np.ndarray]:
        """The inputs without segments."""
        return {name: value for name, value in self.inputs.items() if not name.endswith("segments")}

    def arrays(self) -> dict[str, Any]:
        """Everything, as one tree."""
        tree = {"inputs": self.inputs, "targets": self.targets, "segments": self.segments, "weights": self.weights}
        return {name: value for name, value in tree.items() if value is not None}


@dataclass(frozen=True)
class Plan:
    """What a ladder climbs: the precisions, the optimizer steps, the randomness."""

    dtypes: tuple[str, ...] = ("float64", "float32")
    steps: int = 3
    runs: tuple[str, ...] = ("unclipped", "clipped")
    """The optimizer's configs, by their names in ``TRAIN``."""
    seed: int = 0
    init: bool = True
    """Also compare the statistics of freshly initialised weights."""
    optimize: bool = True
    """Let XLA optimise the float64 programs. Off, they compile twice as fast and compute the same function."""


@dataclass(frozen=True)
class Forward:
    """One forward and backward pass."""

    taps: Hub
    """Every named activation, in its own dtype; torch's are in the order of the computation."""
    loss: float
    """Mean negative log likelihood of the counted tokens, in nats, and the balance loss of experts."""
    gradients: Hub


@dataclass(frozen=True)
class Decoded:
    """A text read through a cache."""

    logits: np.ndarray
    state: Hub
    """What the cache holds in the end, by layer and name: keys and values, latents, sums, windows, states."""


def layer_state(layers: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every array that a list of layers' caches holds, by name; a layer may hold nothing."""
    for number, layer in enumerate(layers):
        if layer is not None:
            yield from ((f"{prefix}layers.{number}.{name}", value) for name, value in vars(layer).items())


@dataclass(frozen=True)
class Trained:
    """What k optimizer steps leave behind."""

    params: Hub
    first: Hub
    second: Hub
    smallest: Hub
    """Smallest value that the root of each second moment has had, zeros left out: they divide zeros, which is exact."""

    @staticmethod
    def after(before: "Trained | None", params: Hub, first: Hub, second: Hub) -> "Trained":
        """The record after one more step."""
        roots = {name: np.where(value == 0, np.inf, np.sqrt(value)) for name, value in second.items()}
        if before is not None:
            roots = {name: np.minimum(root, before.smallest[name]) for name, root in roots.items()}
        return Trained(params, first, second, roots)


@dataclass(frozen=True)
class Measured:
    """Everything that one framework answers for one config."""

    exported: dict[str, Hub]
    """By rung: the weights after a way through the framework's own parameters."""
    forward: dict[str, Forward]
    """By rung."""
    decoding: dict[str, np.ndarray]
    """Logits of the ragged batch: ``plain`` without segments, ``full`` in one pass, ``decoded`` through a cache (not for an
    encoder, which has none)."""
    state: Hub
    """What the cache holds after that, by layer and name."""
    trained: dict[str, Trained]
    """By training config and step: after the first step and after the last."""
    initial: Hub
    """Freshly drawn weights; empty where the plan leaves them out."""


def used(experts: Mapping[str, Any], array: Callable[[Any], np.ndarray]) -> Hub:
    """The use of experts by name of the layer, as taps; both frameworks count in integers of their own size."""
    taps = {}
    for layer, usage in experts.items():
        taps |= {f"experts.{layer}.{name}": array(getattr(usage, name)) for name in ("load_balance", "router_z")}
        taps[f"experts.{layer}.counts"] = array(usage.counts).astype(np.int64)
    return taps


def _train(clip_norm: float | None, warmup_steps: int) -> Train:
    optimizer = AdamW(beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.3, decay_embedding=False)
    rates = {"learning_rate": 3e-3, "min_learning_rate": 1e-3, "warmup_steps": warmup_steps}
    return Train(steps=8, batch_size=1, optimizer=optimizer, clip_norm=clip_norm, **rates)


TRAIN = {"unclipped": _train(None, 2), "clipped": _train(0.1, 0)}
"""Hyperparameters under which every part of AdamW and of the schedule shows within three steps: one run warms up, the other
decays from its second step on. An epsilon above the default keeps the noise of tiny gradients from being divided by itself."""


def reported_steps(count: int) -> tuple[int, ...]:
    """The steps after which optimizers are compared: after the first, a mistake has not yet spread through the gradients."""
    return tuple(dict.fromkeys((1, count)))
