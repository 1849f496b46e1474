"""Two sides -> checks: what was compared, how far apart, how far that may be."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jax_transformer.config import DtypeName, Model, Moe
from jax_transformer.config.errors import ConfigError
from jax_transformer.config.tree import nodes
from jax_transformer.convert.hf.flat import differences, flatten, without_bounds
from jax_transformer.verify.probes import Probe, decoding_probe, read_at_once

LIMITS: dict[DtypeName, float] = {"float32": 2e-5, "float64": 1e-10}
"""Largest difference of two logits, in units of the largest logit. Rounding makes some 1e-6 in float32 and 1e-14 in float64:
what is above the limit there is a difference in meaning."""

NAMED = 3
"""Tensors that a note names."""

_BLOCK = 2**20
"""Elements that are compared at a time."""


class Side(Protocol):
    """One framework's answers for one folder."""

    config: Model

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]: ...
    def logits(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray: ...
    def decode(self, inputs: Mapping[str, np.ndarray], read: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Check:
    """One comparison: it passes where ``error <= limit``."""

    name: str
    error: float
    limit: float
    length: int | None = None
    """Tokens of a row."""
    note: str = ""

    @property
    def passed(self) -> bool:
        """A NaN error does not."""
        return self.error <= self.limit


@dataclass(frozen=True)
class Fingerprint:
    """What a side's tensors are, without them."""

    layout: dict[str, str]
    """Name -> dtype and shape."""
    digests: dict[str, str]
    """Name -> SHA-256 of the bytes."""

    @staticmethod
    def of(tensors: Iterable[tuple[str, np.ndarray]]) -> "Fingerprint":
        """One tensor in memory at a time."""
        layout, digests = {}, {}
        for name, array in tensors:
            layout[name] = f"{array.dtype}{list(array.shape)}"
            digests[name] = hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()
        return Fingerprint(layout, digests)

    @property
    def structure_sha256(self) -> str:
        """Of every name, dtype and shape."""
        return digest_of(self.layout)

    @property
    def tensors_sha256(self) -> str:
        """Of every name and the bytes under it."""
        return digest_of(self.digests)


def digest_of(value: Any) -> str:
    """SHA-256 of a value's one spelling as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def config_digest(config: Model) -> str:
    """SHA-256 of all values of ``config`` that change what the model computes."""
    return digest_of(without_bounds(flatten(config)))


def check_comparable(a: Model, b: Model, names: tuple[str, str]) -> None:
    """Raises ConfigError, listing every difference, unless both configs mean the same model."""
    if a.vocab_size != b.vocab_size:
        raise ConfigError(
            f"vocab_size: {names[0]} has {a.vocab_size} tokens and {names[1]} {b.vocab_size}: their logits cannot be compared; "
            "was one of them padded or cut?"
        )
    if lines := differences(flatten(a), flatten(b), names):
        raise ConfigError(
            "the configs describe different models; compare a checkpoint with its own conversion:\n  " + "\n  ".join(lines)
        )


def check_tensors(a: Fingerprint, b: Fingerprint) -> Iterator[Check]:
    """Names, shapes and dtypes, then bytes: the error is the number of tensors that differ."""
    for name, left, right in (("structure", a.layout, b.layout), ("bytes", a.digests, b.digests)):
        wrong = [tensor for tensor in dict.fromkeys((*left, *right)) if left.get(tensor) != right.get(tensor)]
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        shown = [f"{tensor}: {_pair(a, b, tensor)}" if name == "structure" else tensor for tensor in wrong[:NAMED]]
        yield Check(name, float(len(wrong)), 0.0, note=", ".join(shown) + more if wrong else f"{len(left)} tensors")


def check_answers(a: Side, b: Side, probes: list[Probe], limit: float) -> Iterator[Check]:
    """Logits of every probe, and those through a cache: side against side, and each against its own in one pass."""
    # The shortest first: transformers keeps a rotation that depends on the length from one call to a shorter one.
    for probe in sorted(probes, key=lambda probe: probe.length):
        error = relative_error(b.logits(probe.inputs), a.logits(probe.inputs))
        yield Check(f"logits, {probe.name}", error, limit, probe.length, probe.note)
    probe = decoding_probe(a.config, probes)
    if probe is None:
        return
    read = read_at_once(probe.length)
    cached = [side.decode(probe.inputs, read) for side in (a, b)]
    yield Check("cached decode", relative_error(cached[1], cached[0]), limit, probe.length, f"{read} tokens at once")
    if any(isinstance(node, Moe) and node.routes_by_batch for node in nodes(a.config)):
        return  # tokens compete for experts, and a cache sees fewer at a time
    for name, side, own in zip("AB", (a, b), cached, strict=True):
        yield Check(f"cached decode of {name} = one pass", relative_error(own, side.logits(probe.inputs)), limit, probe.length)


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    """``max |got - want| / max |want|``; infinite for another shape, for numbers that are not finite, and beside all zeros."""
    if got.shape != want.shape:
        return math.inf
    got, want = got.reshape(-1), want.reshape(-1)
    distance = scale = 0.0
    for start in range(0, got.size, _BLOCK):
        left, right = (part[start : start + _BLOCK].astype(np.float64) for part in (got, want))
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return math.inf
        distance = max(distance, float(np.abs(left - right).max()))
        scale = max(scale, float(np.abs(right).max()))
    return distance and (distance / scale if scale else math.inf)


def _pair(a: Fingerprint, b: Fingerprint, tensor: str) -> str:
    return f"{a.layout.get(tensor, 'none')} and {b.layout.get(tensor, 'none')}"
