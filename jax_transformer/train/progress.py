"""Progress of a run for the person who watches it: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_FORMATS = {
    "loss": ("loss", "{:.4f}"),
    "validation_loss": ("val loss", "{:.4f}"),
    "validation_accuracy": ("val acc", "{:.3f}"),
    "tokens_per_second": ("tok/s", "{:,.0f}"),
    "grad_norm": ("grad norm", "{:.3f}"),
    "learning_rate": ("lr", "{:.2e}"),
}
"""Value name -> (label, format), in the order shown; other values are not shown."""


class Progress:
    """Use as a context manager, then ``update`` at every step or every few; ``note`` for what happens in between.

    On a terminal: step, the values, and the time that remains, in a bar that stays at the bottom. Elsewhere (a log file,
    CI, a batch scheduler): one line per update, but no more than one in ``seconds`` beside those with a validation loss and
    the last step.
    """

    def __init__(self, total_steps: int, start_step: int = 0, *, console: Console | None = None, seconds: float = 5.0) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._total = total_steps
        self._start_step = start_step
        self._seconds = seconds
        self._started = time.monotonic()
        self._last_line = -seconds
        self._bar = _make_bar(self._console) if self._console.is_terminal else None

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if self._bar is not None:
            self._bar.start()
            self._bar.add_task("", total=self._total, completed=self._start_step, values="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Shows that ``step`` is done, with those of ``values`` that have a format."""
        shown = [(values[key], *_FORMATS[key]) for key in _FORMATS if key in values]
        text = "  ".join(f"{label} {form.format(float(value))}" for value, label, form in shown)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, values=text)
            return
        now = time.monotonic()
        if now - self._last_line >= self._seconds or step >= self._total or "validation_loss" in values:
            self._last_line = now
            self.note(f"step {step}/{self._total}  {text}  eta {_clock(self._remaining(step, now))}")

    def note(self, text: str) -> None:
        """Prints a line, above the bar where there is one."""
        self._console.print(text, markup=False, soft_wrap=True)

    def _remaining(self, step: int, now: float) -> float:
        done = max(step - self._start_step, 1)
        return (now - self._started) / done * (self._total - step)


def _make_bar(console: Console) -> Bar:
    return Bar(
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[values]}"),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
