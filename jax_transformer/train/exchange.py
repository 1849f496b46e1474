"""A run's checkpoint <-> a training folder: weights, AdamW's moments and the step move to PyTorch and come back."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_transformer.config import Model, Run
from jax_transformer.config.errors import CheckpointError, ConfigError
from jax_transformer.config.load import load_run
from jax_transformer.convert.hf.flat import differences, flatten
from jax_transformer.convert.layout import check_names, entries_by_param, read_param
from jax_transformer.convert.pretrained import MAX_SHARD_BYTES, open_pretrained, structure
from jax_transformer.convert.source import Format, source_of_params, write_source
from jax_transformer.convert.training_folder import FIRST, PARTS, SECOND, WEIGHTS, Progress, read_progress, write_training
from jax_transformer.sharding.mesh import build_mesh
from jax_transformer.train.checkpoint import Checkpointer, restore_arrays
from jax_transformer.train.committed import Which, list_steps
from jax_transformer.train.folder import CHECKPOINTS, CONFIG
from jax_transformer.train.lock import RunLock
from jax_transformer.train.named_arrays import flatten as named
from jax_transformer.train.named_arrays import unflatten
from jax_transformer.train.state import make_recipe

_LEAF = re.compile(r"(?:(params)|opt_state/(?:\w+/)*(mu|nu))/(.+)")
_COUNT = re.compile(r"opt_state/(?:\w+/)*count")
_PART = {"params": WEIGHTS, "mu": FIRST, "nu": SECOND}


def export_training(
    run: Path, target: Path, step: Which = "latest", format: Format = "exchange", family: str | None = None
) -> Progress:
    """Writes one step of a run as the training folder ``target``; ``format`` and ``family`` as in ``save_pretrained``.

    Raises CheckpointError for a damaged step or another optimizer than AdamW, WeightsError where ``target`` exists.
    """
    model = load_run(run / CONFIG).model
    arrays, _ = restore_arrays(run / CHECKPOINTS, step)
    parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
    updates = set()
    for name, array in arrays.items():
        part, path = _place(name)
        if part == "count":
            updates.add(int(array))
        elif part is not None:
            parts[part][path] = array
    if len(updates) != 1:
        raise CheckpointError(f"{run}: its optimizer has counted {sorted(updates)} updates; wanted one count")
    progress = Progress(int(arrays["step"]), updates.pop())

    def write(part: str, folder: Path) -> None:
        source = source_of_params(model, parts[part], structure(model))
        write_source(folder, source, {}, (format, family), max_shard_bytes=MAX_SHARD_BYTES, overwrite=False)

    write_training(target, write, progress)
    return progress


def import_training(source: Path, run: Path) -> Progress:
    """Commits a training folder as the newest checkpoint of a run, which ``train --resume`` continues from.

    The steps that were taken elsewhere count as steps on the batches that this run would have read next. Raises
    CheckpointError unless the folder is ahead of the run, ConfigError where it holds another model.
    """
    config, progress = load_run(run / CONFIG), read_progress(source)
    steps = list_steps(run / CHECKPOINTS)
    if not steps or progress.step <= steps[-1]:
        newest = steps[-1] if steps else "none"
        raise CheckpointError(f"{source}: is at step {progress.step}, wanted one after the newest of {run}, {newest}")
    with RunLock(run):
        record = restore_arrays(run / CHECKPOINTS, steps[-1], "step")[1]
        ahead = (progress.step - steps[-1]) * config.train.batch_size
        record["position"] = {"rows": record["position"]["rows"] + ahead}
        keep = config.checkpoints
        with contextlib.closing(Checkpointer(run / CHECKPOINTS, keep.keep_last, keep.keep_best)) as checkpoints:
            checkpoints.save(progress.step, _state(source, config, progress), record, None)
    return progress


def _state(source: Path, config: Run, progress: Progress) -> Any:
    """The training state of ``source`` in the structure of the run's."""
    skeleton = make_recipe(config, build_mesh(config.mesh)).state
    parts = {part: _read(source / part, config.model) for part in PARTS}

    def leaf(name: str, dtype: Any) -> Any:
        part, path = _place(name)
        if part is None or part == "count":
            return jnp.asarray(progress.step if part is None else progress.updates, dtype)
        return jnp.asarray(parts[part][path])

    return unflatten(skeleton, {name: leaf(name, abstract.dtype) for name, abstract in named(skeleton).items()})


def _read(folder: Path, model: Model) -> Mapping[str, np.ndarray]:
    config, weights = open_pretrained(folder)
    if lines := differences(flatten(model), flatten(config), ("the run", str(folder))):
        raise ConfigError("the training folder holds another model than the run:\n  " + "\n  ".join(lines))
    specs = structure(model)
    check_names(specs, weights)
    wrong = {str(info.dtype) for info in weights.values()} - {model.dtype.param}
    if wrong:
        raise ConfigError(
            f"{folder}: its tensors are {', '.join(sorted(wrong))}, but the run has dtype.param={model.dtype.param}"
        )
    return {path: read_param(weights.read_part, entries, specs[path]) for path, entries in entries_by_param(specs).items()}


def _place(name: str) -> tuple[str | None, str]:
    """The part, and the path in it, that an array of a checkpoint belongs to; ``count`` is a part; None is the step."""
    if match := _LEAF.fullmatch(name):
        return _PART[match[1] or match[2]], match[3]
    if _COUNT.fullmatch(name):
        return "count", name
    if name != "step":
        raise CheckpointError(f"array {name}: is no part of AdamW's state; only runs of AdamW move between frameworks")
    return None, name
