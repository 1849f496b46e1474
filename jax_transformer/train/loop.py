"""The training loop, read from top to bottom."""

import contextlib
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_transformer import config
from jax_transformer.config.errors import CheckpointError, NonFiniteError
from jax_transformer.convert.pretrained import convert
from jax_transformer.train.checkpoint import Checkpointer
from jax_transformer.train.evaluate import Evaluation, evaluate
from jax_transformer.train.folder import CHECKPOINTS, EXPORT, prepare_folder
from jax_transformer.train.lock import RunLock
from jax_transformer.train.metrics import MetricsWriter, plot_loss
from jax_transformer.train.objective import Batch
from jax_transformer.train.progress import Progress
from jax_transformer.train.session import Session, open_session, restore_session
from jax_transformer.train.signals import StopFlag
from jax_transformer.train.state import init_state
from jax_transformer.train.step import State, all_finite


class TrainResult(NamedTuple):
    """How a run ended."""

    step: int
    evaluation: Evaluation | None
    """Of the last state, if the run reached its last step."""
    exit_code: int
    """0, or 128 + the number of the signal that stopped the run."""


def train(run: config.Run, folder: Path, resume: bool = False) -> TrainResult:
    """Train ``run`` in ``folder``, or continue there with ``resume``; see ``folder.py`` for what the folder holds.

    A signal saves the current step and returns. Raises RunLockedError if another process uses the folder; ConfigError,
    DataError or CheckpointError, before the first step, for what does not fit; NonFiniteError when more than
    ``train.max_skipped_steps`` steps had a loss or gradient norm that is not finite. Committed checkpoints stay good.
    """
    leader = _is_leader()
    with RunLock(folder) if leader else contextlib.nullcontext(), StopFlag() as stop:
        prepare_folder(folder, run, resume)
        session = open_session(run, folder)
        if leader:
            session.corpus.tokenizer.save(folder)
        c = run.checkpoints
        with contextlib.closing(Checkpointer(folder / CHECKPOINTS, c.keep_last, c.keep_best)) as checkpoints:
            loop = _Loop(session, folder, stop, checkpoints)
            with contextlib.closing(loop.metrics):
                result = loop.run(resume)
        if leader and result.exit_code == 0:
            plot_loss(folder)
            convert(folder, folder / EXPORT, overwrite=True)
        return result


class _Pending(NamedTuple):
    """A step whose metrics have not been read yet, so that the device never waits for Python."""

    step: int
    batch: Batch
    metrics: dict[str, jax.Array]


class _Loop:
    """What the steps of one call of ``train`` leave behind besides the state itself."""

    def __init__(self, session: Session, folder: Path, stop: StopFlag, checkpoints: Checkpointer):
        self.session, self.folder, self.stop, self.checkpoints = session, folder, stop, checkpoints
        self.train = session.run.train
        self.metrics = MetricsWriter(folder)
        self.pending: _Pending | None = None
        self.values: dict[str, float] = {}
        self.skipped = 0
        self.evaluation: Evaluation | None = None
        self.best = math.inf
        self._restart_clock()

    def run(self, resume: bool) -> TrainResult:
        """Train from the newest checkpoint, or from the beginning, to the last step or to a signal."""
        done, state, notes = self._start(resume)
        with jax.set_mesh(self.session.recipe.mesh), Progress(self.train.steps, done) as self.progress:
            self._note(*notes)
            first = done
            while done < self.train.steps and not self.stop.agreed(done):
                batch = next(self.session.loader)
                state, metrics = self.session.train_step(state, self.session.place(batch))
                self._settle()
                self.pending = _Pending(done, batch, metrics)
                if done == first:
                    self._restart_clock()  # without the compilation
                done += 1
                self._after_step(done, state)
            self._settle()
            self._finish(done, state)
        return TrainResult(done, self.evaluation, self.stop.exit_code)

    def _start(self, resume: bool) -> tuple[int, State, tuple[str, ...]]:
        """Steps done, the state to go on from, and what to tell about it."""
        if resume and self.checkpoints.steps():
            restored = restore_session(self.session, self.checkpoints)
            done, state, record = restored.step, restored.state, restored.record
            self.skipped, self.best = record["skipped"], record["best"] or math.inf
            notes = (*restored.skipped, f"resuming from step {done}")
        else:
            done, state = 0, init_state(self.session.run, self.session.recipe)
            notes = (f"{self.folder} has no committed checkpoint: starting from the beginning",) if resume else ()
        if _is_leader():
            self.metrics.truncate_after(done)
        return done, state, notes

    def _after_step(self, done: int, state: State) -> None:
        """Log, evaluate and save, each when it is due after ``done`` steps."""
        last = done == self.train.steps
        row: dict[str, float] = {}
        if last or done % self.train.log_every == 0:
            self._settle()
            rate = float(self.session.learning_rate(done - 1))
            row = self.values | {
                "learning_rate": rate,
                "tokens_per_second": self.tokens / (time.perf_counter() - self.clock),
            }
            self._restart_clock()
        self.evaluation = None
        if last or done % self.train.evaluate_every == 0:
            self._settle()
            self.evaluation = self._evaluate(state)
        if self.evaluation is not None:
            row |= self.evaluation.metrics()
        if row and _is_leader():
            self.metrics.write(done, row)
            self.progress.update(done, row)
        best = self.evaluation is not None and self.evaluation.loss < self.best
        if self.evaluation is not None:
            self.best = min(self.best, self.evaluation.loss)
        if last or done % self.session.run.checkpoints.every == 0 or (best and self.session.run.checkpoints.keep_best):
            self._save(done, state)
        self._report_commits()
        if self.evaluation is not None:
            self._restart_clock()

    def _finish(self, done: int, state: State) -> None:
        """Commit the state that a stopped run leaves; evaluate the last state if nothing has yet."""
        if self.stop.requested and 0 < done < self.train.steps:
            self._save(done, state)
        self.checkpoints.wait()
        self._report_commits()
        if self.evaluation is None and not self.stop.requested:
            self.evaluation = self._evaluate(state)

    def _settle(self) -> None:
        """Read the metrics of the step before; stop if it was not finite and no more steps may be skipped."""
        if self.pending is None:
            return
        (step, batch, metrics), self.pending = self.pending, None
        self.values = {name: float(value) for name, value in metrics.items()}
        self.tokens += int(self.values.pop("tokens"))
        if self.values.pop("finite"):
            return
        self.skipped += 1
        found = f"step {step + 1}: loss {self.values['loss']}, gradient norm {self.values['grad_norm']}"
        path = self.folder / f"nonfinite_step_{step + 1}_process_{jax.process_index()}.npz"
        arrays: dict[str, Any] = dict(batch)
        np.savez(path, **arrays)
        if self.skipped > self.train.max_skipped_steps:
            raise NonFiniteError(
                f"{found}: not finite, {self.skipped} such steps where train.max_skipped_steps={self.train.max_skipped_steps}; "
                f"the parameters are unchanged by it and committed checkpoints are good; its batch is in {path}"
            )
        self._note(f"{found}: skipped, the parameters are unchanged; its batch is in {path}")

    def _evaluate(self, state: State) -> Evaluation | None:
        """Loss on the validation split; None if a signal came meanwhile (several processes finish together instead)."""
        alone = jax.process_count() == 1
        should_stop = (lambda: self.stop.requested) if alone else (lambda: False)
        return evaluate(self.session.eval_step, state["params"], self.session.validation(), should_stop)

    def _save(self, done: int, state: State) -> None:
        """Begin to save the state after ``done`` steps; a full disk must not end a run that can still be saved later."""
        self._settle()
        if not all_finite(state["params"]):
            raise NonFiniteError(f"step {done}: a parameter is not finite though loss and gradients were; nothing was saved")
        record = {
            "config": self.session.run.model_dump(mode="json"),
            "position": self.session.loader.position(),
            "fingerprint": self.session.corpus.fingerprint,
            "skipped": self.skipped,
            "best": self.best if math.isfinite(self.best) else None,
        }
        try:
            self.checkpoints.wait()
        except CheckpointError as error:
            self._note(f"warning: {error}")
        try:
            self.checkpoints.save(done, state, record, None if self.evaluation is None else self.evaluation.loss)
        except CheckpointError as error:
            if done == self.train.steps or self.stop.requested:
                raise
            self._note(f"warning: {error} Training goes on, and saves again when that is due.")

    def _report_commits(self) -> None:
        self._note(*(f"committed step {step}" for step in self.checkpoints.poll()))

    def _note(self, *lines: str) -> None:
        for line in lines if _is_leader() else ():
            self.progress.note(line)

    def _restart_clock(self) -> None:
        self.clock, self.tokens = time.perf_counter(), 0


def _is_leader() -> bool:
    return jax.process_index() == 0
