"""Checkpoints: written in the background, trusted only when committed, verified before they are read.

    <folder>/<step>/state/          the arrays, by orbax, under flat names
    <folder>/<step>/record.json     names, shapes and dtypes of the arrays; what the training loop has to remember
    <folder>/<step>/MANIFEST.json   size and checksum of every file
    <folder>/<step>.tmp/            a step on its way in or out: never read, swept at start
    <folder>/<step>.corrupt/        a step that failed verification: kept for inspection, never read

A step is committed when orbax has finished, the manifest is on disk and the folder has lost its ``.tmp``: one rename.
"""

import json
import logging
import math
import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from jax_transformer.config.errors import CheckpointError
from jax_transformer.train.committed import Which, best_step, choose_step, list_steps
from jax_transformer.train.manifest import sync_folder, write_manifest
from jax_transformer.train.named_arrays import PyTree, check_match, describe, flatten, num_bytes, unflatten
from jax_transformer.train.processes import any_process, on_leader
from jax_transformer.train.stored_arrays import RECORD, STATE, load_arrays, open_step, read_record

_SLACK = 2**20
"""Bytes kept free beyond the arrays: metadata, record and manifest."""

# orbax logs each failed write several times with its full traceback; the failure is raised here, once, in a sentence.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)


@dataclass(frozen=True)
class Restored:
    """A restored step; ``skipped`` says, one sentence each, which newer steps were damaged (on process 0)."""

    step: int
    state: PyTree
    record: dict[str, Any]
    skipped: tuple[str, ...]


class Checkpointer:
    """Saves, keeps and restores the steps of one run. With several processes every method but ``poll`` is collective.

    The newest ``keep_last`` steps are kept, and with ``keep_best`` the one with the lowest loss as well. Opening a folder
    sweeps what a killed save left behind, so the folder must be this run's own (see RunLock).
    """

    def __init__(self, folder: Path, keep_last: int, keep_best: bool) -> None:
        self._folder = folder.absolute()
        self._keep_last = keep_last
        self._keep_best = keep_best
        self._committed: list[int] = []
        self._pending: Future[None] | None = None
        on_leader(self._open_folder)
        # Float weights hardly compress, and compression takes the cores that a CPU run trains on.
        self._orbax = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler(use_compression=False))
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")

    def save(self, step: int, state: PyTree, record: dict[str, Any], loss: float | None) -> None:
        """Starts writing ``step`` and returns as soon as the arrays may change; see ``poll`` for the commit.

        ``record`` is JSON of the caller's own; ``loss`` the validation loss, by which the best step is found. A step that
        is committed already is left as it is. Raises CheckpointError when the loss is not finite, when space is short, or
        when the previous save failed (this one has not started then and may be tried again).
        """
        if loss is not None and not math.isfinite(loss):
            raise CheckpointError(f"step {step} has loss {loss}: a state that is not finite is never saved")
        self.wait()
        arrays = flatten(state)
        if not on_leader(lambda: self._stage(step, arrays, record)):
            return
        self._orbax.save(self._staging(step) / STATE, args=ocp.args.PyTreeSave(arrays))
        self._pending = self._worker.submit(self._commit, step, loss, num_bytes(arrays) + _SLACK)

    def poll(self) -> tuple[int, ...]:
        """Steps committed since the last call (on process 0); never waits, never raises."""
        done = tuple(self._committed)
        del self._committed[: len(done)]
        return done

    def wait(self) -> None:
        """Returns once the last save is committed; raises CheckpointError if it failed on any process."""
        pending, self._pending = self._pending, None
        error = None if pending is None else pending.exception()
        if any_process(error is not None):
            raise error or CheckpointError("another process could not write its part of the checkpoint; its message says why")

    def close(self) -> None:
        """Waits for the last save, then releases threads. Raises like ``wait``."""
        try:
            self.wait()
        finally:
            self._worker.shutdown()
            self._orbax.close()

    def restore(self, abstract_state: PyTree, step: Which = "latest") -> Restored:
        """The newest (or best) step whose every byte is verified, laid out as ``abstract_state``'s shardings say.

        The mesh may differ from the one that saved. A damaged step is renamed to ``<step>.corrupt`` and the next one
        taken, unless ``step`` is a number. Raises CheckpointError when no step is left, or when names, shapes or dtypes
        differ from ``abstract_state``.
        """
        self.wait()
        skipped: list[str] = []
        chosen = on_leader(lambda: self._choose(step, skipped))
        folder = self._folder / str(chosen)
        saved = read_record(folder)
        wanted = flatten(abstract_state)
        check_match(str(folder), saved["arrays"], describe(wanted))
        targets = {name: _target(leaf) for name, leaf in wanted.items()}
        arrays = load_arrays(self._orbax, folder, targets)
        return Restored(chosen, unflatten(abstract_state, arrays), saved["record"], tuple(skipped))

    def steps(self) -> tuple[int, ...]:
        """Committed steps, ascending."""
        return list_steps(self._folder)

    def best_step(self) -> int | None:
        """The committed step with the lowest loss (the newest of equals), or None if none has a loss."""
        return best_step(self._folder)

    def _open_folder(self) -> int:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            stale = [path for path in self._folder.iterdir() if re.fullmatch(r"\d+(\.old)?\.tmp", path.name)]
            for path in stale:
                shutil.rmtree(path)
        except OSError as error:
            raise CheckpointError(f"{self._folder}: cannot hold checkpoints ({error.strerror})") from error
        return len(stale)

    def _staging(self, step: int) -> Path:
        return self._folder / f"{step}.tmp"

    def _stage(self, step: int, arrays: dict[str, jax.Array], record: dict[str, Any]) -> int:
        """Makes room for a step; 0 when it is committed already."""
        if step in self.steps():
            return 0
        needed = num_bytes(arrays) + _SLACK
        if shutil.disk_usage(self._folder).free < needed:
            raise _write_error(self._folder, step, needed, "too little space")
        content = json.dumps({"arrays": describe(arrays), "record": record}, indent=1, allow_nan=False)
        try:
            shutil.rmtree(self._staging(step), ignore_errors=True)
            self._staging(step).mkdir()
            (self._staging(step) / RECORD).write_text(content, encoding="utf-8")
        except OSError as error:
            shutil.rmtree(self._staging(step), ignore_errors=True)
            raise _write_error(self._folder, step, needed, str(error)) from error
        return 1

    def _commit(self, step: int, loss: float | None, needed: int) -> None:
        """Runs beside training: waits for orbax on every process, then process 0 commits and drops old steps."""
        try:
            self._orbax.wait_until_finished()
            if jax.process_index() != 0:
                return
            write_manifest(self._staging(step), {"step": step, "loss": loss})
            self._staging(step).rename(self._folder / str(step))
            sync_folder(self._folder)
        except Exception as error:
            shutil.rmtree(self._staging(step), ignore_errors=True)
            raise _write_error(self._folder, step, needed, str(error)) from error
        self._committed.append(step)
        self._drop_old()

    def _drop_old(self) -> None:
        steps = self.steps()
        kept = {*steps[-self._keep_last :], best_step(self._folder) if self._keep_best else None}
        for step in set(steps) - kept:
            # Renamed first: a deletion that is cut short must not leave half a step under its name.
            leaving = (self._folder / str(step)).rename(self._folder / f"{step}.old.tmp")
            shutil.rmtree(leaving)

    def _choose(self, step: Which, skipped: list[str]) -> int:
        chosen, damaged = choose_step(self._folder, step)
        skipped.extend(damaged)
        return chosen


def restore_arrays(folder: Path, step: Which = "latest", prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a verified step whose flat names begin with ``prefix``, and the caller's record.

    For conversion and generation: nothing else is read. Raises what ``open_step`` does.
    """
    opened = open_step(folder, step, prefix)
    return opened.load(opened.names), opened.record


def _target(leaf: jax.Array | jax.ShapeDtypeStruct) -> ocp.ArrayRestoreArgs:
    sharding = leaf.sharding or SingleDeviceSharding(jax.local_devices()[0])
    return ocp.ArrayRestoreArgs(sharding=sharding, global_shape=leaf.shape, dtype=leaf.dtype)


def _write_error(folder: Path, step: int, needed: int, reason: str) -> CheckpointError:
    free = shutil.disk_usage(folder).free
    return CheckpointError(
        f"{folder}: step {step} cannot be written ({reason}). It needs {needed} bytes, {free} are free. Earlier steps are "
        "intact; make room, or keep fewer steps (checkpoints.keep_last)."
    )
