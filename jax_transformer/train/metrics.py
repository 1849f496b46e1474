"""What a run measured: metrics.jsonl, TensorBoard events, and a picture of the loss."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tensorboardX import SummaryWriter

from jax_transformer.config.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS, TENSORBOARD, PICTURE = "metrics.jsonl", "tensorboard", "loss.png"
_TRAIN, _VALIDATION, _GREY, _GREEN = "#4477aa", "#ee6677", "#888888", "#228833"


class MetricsWriter:
    """Appends one JSON object a step to ``<folder>/metrics.jsonl`` and the same numbers to ``<folder>/tensorboard/``.

    A run that resumes calls ``truncate_after`` before its first ``write``; each step then stands once in both.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._truncated = False
        self._last_step = -1
        self._files: tuple[IO[str], SummaryWriter] | None = None

    def truncate_after(self, step: int) -> None:
        """Forgets every step beyond ``step``, and a last line that a killed process left unfinished."""
        self.close()
        path = self._folder / METRICS
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_metrics(self._folder) if row["step"] <= step]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
        temporary.replace(path)
        self._truncated = True
        self._last_step = kept[-1]["step"] if kept else -1

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends ``{"step": step, **values}`` and flushes it; a number that is not finite is written as null.

        Without ``truncate_after`` the first write forgets ``step`` and what follows it. Raises ValueError when ``step``
        is not beyond the last one.
        """
        if not self._truncated:
            self.truncate_after(step - 1)
        if step <= self._last_step:
            raise ValueError(f"step {step} comes after step {self._last_step}: each step is written once, in order")
        if self._files is None:
            self._files = self._open()
        lines, board = self._files
        lines.write(_line({"step": step, **{name: _number(value) for name, value in values.items()}}))
        lines.flush()
        for name, value in values.items():
            board.add_scalar(name, float(value), step)
        self._last_step = step

    def close(self) -> None:
        """Flushes and closes both files; a later ``write`` goes on where this one stopped."""
        files, self._files = self._files, None
        for file in files or ():
            file.close()

    def _open(self) -> tuple[IO[str], SummaryWriter]:
        # purge_step: TensorBoard hides the events of earlier writers from there on. The suffix: the library's own file
        # name has whole seconds, and a second writer within one would overwrite the first one's file.
        purge, suffix = self._last_step + 1, f".{time.time_ns()}"
        board = SummaryWriter(str(self._folder / TENSORBOARD), purge_step=purge, filename_suffix=suffix)
        return (self._folder / METRICS).open("a", encoding="utf-8"), board


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``<folder>/metrics.jsonl``, none if there is no file; an unfinished last line is left out.

    Raises DataError naming any other line that is not a JSON object with a step.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    complete = path.read_bytes().split(b"\n")[:-1]
    rows = []
    for number, line in enumerate(complete, start=1):
        try:
            row = json.loads(line)
            int(row["step"])
        except (ValueError, TypeError, KeyError):
            raise DataError(f"{path}:{number}: not a JSON object with a step; remove the line") from None
        rows.append(row)
    return rows


def plot_loss(folder: Path) -> Path:
    """Draws ``<folder>/metrics.jsonl`` as ``<folder>/loss.png``: losses above, learning rate and gradient norm below.

    Reads ``loss``, ``validation_loss``, ``learning_rate`` and ``grad_norm``, each where a row has it. Raises DataError
    when there is nothing to draw.
    """
    # Here, not above: half a second that a training run pays only when it draws.
    from matplotlib.figure import Figure

    rows = read_metrics(folder)
    if not rows:
        raise DataError(f"{folder / METRICS}: no steps to draw")
    figure = Figure(figsize=(8, 6), dpi=130, layout="constrained")
    panels = figure.subplot_mosaic([["loss", "loss"], ["rate", "norm"]], height_ratios=[2.4, 1])
    _draw(panels["loss"], rows, "loss", _TRAIN, "training")
    _draw(panels["loss"], rows, "validation_loss", _VALIDATION, "validation")
    _draw(panels["rate"], rows, "learning_rate", _GREY)
    _draw(panels["norm"], rows, "grad_norm", _GREEN)
    panels["loss"].set(title="Loss (nats per token)", xlabel="step")
    panels["rate"].set(title="Learning rate", xlabel="step")
    panels["rate"].ticklabel_format(axis="y", scilimits=(-2, 3))
    panels["norm"].set(title="Gradient norm", xlabel="step")
    if panels["loss"].get_lines():
        panels["loss"].legend(frameon=False)
    for panel in panels.values():
        panel.grid(color="#e5e5e5", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.title.set_fontsize(11)
    temporary = folder / f".{PICTURE}.{os.getpid()}"
    figure.savefig(temporary, format="png")
    temporary.replace(folder / PICTURE)
    return folder / PICTURE


def _draw(panel: "Axes", rows: list[dict[str, Any]], name: str, color: str, label: str | None = None) -> None:
    """One curve over the rows that have ``name``; marked points where they are few, the last value written beside it."""
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    if not points:
        return
    steps, values = zip(*points, strict=True)
    marker = "o" if len(points) <= 40 else None
    text = None if label is None else f"{label}, last {values[-1]:.3f}"
    panel.plot(steps, values, color=color, label=text, linewidth=1.6, marker=marker, markersize=4)


def _number(value: float) -> float | int | None:
    value = value if isinstance(value, int) else float(value)
    return value if math.isfinite(value) else None


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
