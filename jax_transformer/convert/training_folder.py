"""A training state as files that both frameworks read: weights, AdamW's moments, and how far training got. Framework-free.

<folder>/weights/        a folder of weights, ours or Hugging Face's
<folder>/exp_avg/        the first moments, under the same names and in the same layout
<folder>/exp_avg_sq/     the second moments
<folder>/training.json   steps of the run, and updates of the optimizer (fewer, where steps were skipped)
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.safetensors_file import parse_json

WEIGHTS, FIRST, SECOND = "weights", "exp_avg", "exp_avg_sq"
PARTS = (WEIGHTS, FIRST, SECOND)
PROGRESS = "training.json"


@dataclass(frozen=True)
class Progress:
    """How far training got."""

    step: int
    updates: int
    """How often the optimizer has changed the weights: what AdamW corrects its moments by."""


def write_training(folder: Path, write_part: Callable[[str, Path], None], progress: Progress) -> None:
    """Writes every part by ``write_part(name, folder)``; ``folder`` appears whole or not at all.

    Raises WeightsError where it exists.
    """
    if folder.exists():
        raise WeightsError(f"{folder}: exists already; remove it, or write elsewhere")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for part in PARTS:
        write_part(part, partial / part)
    (partial / PROGRESS).write_text(json.dumps(asdict(progress), indent=2) + "\n", encoding="utf-8")
    partial.rename(folder)


def read_progress(folder: Path) -> Progress:
    """How far the training in ``folder`` got. Raises WeightsError where that is no training folder."""
    path = folder / PROGRESS
    if not path.is_file():
        raise WeightsError(f"{folder}: has no {PROGRESS}; wanted a folder that `convert --training` or save_training wrote")
    values = parse_json(path, path.read_bytes())
    if values.keys() != {"step", "updates"} or not all(type(value) is int and value >= 0 for value in values.values()):
        raise WeightsError(f"{path}: got {values}, wanted step and updates, both counts")
    return Progress(**values)
