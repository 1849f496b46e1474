"""Two folders and two frameworks -> a certificate."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from jax_transformer.config import DtypeName
from jax_transformer.config.errors import ConfigError
from jax_transformer.convert import hf
from jax_transformer.convert.gguf import is_gguf
from jax_transformer.convert.pretrained import convert
from jax_transformer.verify.certificate import Certificate, SideRecord
from jax_transformer.verify.checks import (
    LIMITS,
    Fingerprint,
    Side,
    check_answers,
    check_comparable,
    check_tensors,
    config_digest,
)
from jax_transformer.verify.probes import make_probes

SIDES = {
    "jax": "jax_transformer.verify.side",
    "torch": "torch_reference.verify.side",
    "transformers": "torch_reference.verify.transformers_side",
}
"""Framework to the module of its side; imported when it is asked for."""

LONGEST = 4352
"""Tokens of a row: beyond the windows of 4096 that most models have."""

_NEEDS = {"jax": ("jax",), "torch": ("torch",), "transformers": ("torch", "transformers")}


@dataclass(frozen=True)
class Question:
    """How to compare."""

    frameworks: tuple[str, str]
    dtype: DtypeName = "float32"
    step: int | Literal["latest", "best"] = "best"
    """Which checkpoint of a run."""
    longest: int = LONGEST
    seed: int = 0
    dequantize: bool = False
    """Whether quantised GGUF files are multiplied out to float32."""


def default_frameworks(alone: bool) -> tuple[str, str]:
    """JAX, and torch where it is installed. Raises ConfigError where a folder ``alone`` would be compared with itself."""
    if find_spec("torch") is not None:
        return "jax", "torch"
    if alone:
        raise ConfigError("one folder is compared in two frameworks, and torch is not installed: install it, or give a second")
    return "jax", "jax"


def check_frameworks(frameworks: tuple[str, str]) -> None:
    """Raises ConfigError for a framework that is unknown or not installed."""
    for name in frameworks:
        if name not in SIDES:
            raise ConfigError(f"--frameworks: {name!r} is unknown; wanted two of {', '.join(SIDES)}")
        if missing := [package for package in _NEEDS[name] if find_spec(package) is None]:
            raise ConfigError(f"--frameworks: {name} needs {' and '.join(missing)}: install it, or choose another framework")


def verify(a: Path, b: Path, question: Question) -> Certificate:
    """Compares folder ``a`` in the first framework with ``b`` in the second: tensors, logits, logits through a cache.

    Each is an exchange folder, a run, a folder of Hugging Face or a GGUF file. Needs JAX's 64-bit mode for float64. Raises
    ConfigError where the configs mean different models or a framework is missing, WeightsError and CheckpointError for damaged
    folders.
    """
    check_frameworks(question.frameworks)
    with _opened(a, question) as first, _opened(b, question) as second:
        left, right = (
            _side(name, folder, question.dtype) for name, folder in zip(question.frameworks, (first, second), strict=True)
        )
        check_comparable(left.config, right.config, (f"A ({a})", f"B ({b})"))
        prints = Fingerprint.of(left.tensors()), Fingerprint.of(right.tensors())
        bound = min(question.longest, right.config.max_length)
        probes = make_probes(left.config, bound, _special_ids(first) + _special_ids(second), question.seed)
        checks = (*check_tensors(*prints), *check_answers(left, right, probes, _limit(question)))
    first_record = _record(str(a), question.frameworks[0], left, prints[0])
    second_record = _record(str(b), question.frameworks[1], right, prints[1])
    return Certificate(first_record, second_record, question.dtype, question.seed, checks)


def _limit(question: Question) -> float:
    # transformers computes norms, softmax and rotations in float32 whatever the dtype of the model.
    return LIMITS["float32"] if "transformers" in question.frameworks else LIMITS[question.dtype]


@contextmanager
def _opened(folder: Path, question: Question) -> Iterator[Path]:
    """What every framework opens: a run is exported for as long as it is compared, and a file that is to be dequantized."""
    dequantize = question.dequantize and is_gguf(folder)
    if not dequantize and not (folder / "checkpoints").is_dir():
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        convert(folder, Path(temporary) / "export", step=question.step, dequantize=dequantize)
        yield Path(temporary) / "export"


def _side(name: str, folder: Path, dtype: DtypeName) -> Side:
    return import_module(SIDES[name]).Side(folder, dtype)


def _special_ids(folder: Path) -> list[int]:
    """Padding: transformers takes it out of the count of positions and of what is seen."""
    values = hf.read_values(folder) if hf.is_hf(folder) else {}
    return [values["pad_token_id"]] if isinstance(values.get("pad_token_id"), int) else []


def _record(source: str, framework: str, side: Side, own: Fingerprint) -> SideRecord:
    dtypes = tuple(sorted({entry.partition("[")[0] for entry in own.layout.values()}))
    return SideRecord(source, framework, config_digest(side.config), own.structure_sha256, own.tensors_sha256, dtypes)
