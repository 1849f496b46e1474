"""The committed steps of a checkpoint folder: which there are, which is best, which can be trusted."""

import math
from pathlib import Path
from typing import Literal

from jax_transformer.config.errors import CheckpointError
from jax_transformer.train.manifest import DamagedError, Manifest, read_manifest, verify_manifest

Which = int | Literal["latest", "best"]


def list_steps(folder: Path) -> tuple[int, ...]:
    """Committed steps, ascending; anything whose name is not a plain number is none."""
    if not folder.is_dir():
        return ()
    names = (path.name for path in folder.iterdir() if path.is_dir())
    return tuple(sorted(int(name) for name in names if name.isdecimal() and name == str(int(name))))


def best_step(folder: Path) -> int | None:
    """The step with the lowest loss, the newest of equals; None if no step has one."""
    losses = {step: _loss(folder / str(step)) for step in list_steps(folder)}
    ranked = [(loss, -step) for step, loss in losses.items() if math.isfinite(loss)]
    return -min(ranked)[1] if ranked else None


def verify_step(folder: Path) -> Manifest:
    """Checks every file of a step, and that the step is the one its folder's name says. Raises DamagedError."""
    manifest = verify_manifest(folder)
    if str(manifest.extra["step"]) != folder.name:
        raise DamagedError(f"{folder}: holds step {manifest.extra['step']} under another step's name")
    return manifest


def choose_step(folder: Path, which: Which) -> tuple[int, tuple[str, ...]]:
    """The first step in the order of ``which`` that verifies, and a sentence for each one before it that did not.

    Those are renamed to ``<step>.corrupt``. A step named by number is not replaced by another: its damage is raised.
    Raises CheckpointError when none is left.
    """
    skipped: list[str] = []
    for step in _candidates(folder, which):
        try:
            verify_step(folder / str(step))
            return step, tuple(skipped)
        except DamagedError as error:
            if isinstance(which, int):
                raise
            aside = set_aside(folder / str(step), "corrupt")
            skipped.append(f"step {step} is damaged and was set aside as {aside.name}: {error}")
    raise CheckpointError("\n".join([f"{folder}: no checkpoint left that can be restored", *skipped]))


def set_aside(step: Path, reason: str) -> Path:
    """Renames ``<step>`` to ``<step>.<reason>``, or ``<step>.<reason>-2`` and so on where that name is taken."""
    target, number = step.with_name(f"{step.name}.{reason}"), 1
    while target.exists():
        number += 1
        target = step.with_name(f"{step.name}.{reason}-{number}")
    try:
        return step.rename(target)
    except OSError as error:
        raise CheckpointError(f"{step} cannot be renamed to {target.name} ({error.strerror}); rename or remove it") from error


def pick_step(folder: Path, which: Which) -> int:
    """The first step in the order of ``which``, unverified. Raises CheckpointError when there is none."""
    return _candidates(folder, which)[0]


def _candidates(folder: Path, which: Which) -> list[int]:
    """Steps to try, best first; never empty."""
    steps = list_steps(folder)
    if not steps:
        raise CheckpointError(f"{folder}: no committed checkpoint; train first, or name another folder")
    if which == "latest":
        return list(reversed(steps))
    if which == "best":
        ranked = sorted((loss, -step) for step in steps if (loss := _loss(folder / str(step))) < math.inf)
        if not ranked:
            raise CheckpointError(f"{folder}: no step has a validation loss, so none is the best; use 'latest'")
        return [-negative for _, negative in ranked]
    if which not in steps:
        raise CheckpointError(f"{folder}: no step {which}; committed are {', '.join(map(str, steps))}")
    return [which]


def _loss(step: Path) -> float:
    """Infinite where no loss was recorded; minus infinity where the manifest is damaged.

    A step that may have been the best is then tried first, and so reported, rather than passed over in silence.
    """
    try:
        loss = read_manifest(step).extra["loss"]
    except DamagedError:
        return -math.inf
    return math.inf if loss is None else loss
