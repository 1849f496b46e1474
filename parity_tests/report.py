"""What a ladder found: rows, the first one that left its budget, and how they are shown."""

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from parity_tests.causes import likely_cause


@dataclass(frozen=True)
class Row:
    """One comparison: it passes where ``error <= budget``."""

    stage: str
    """structure, round trip, forward, gradient, casts, optimizer, decode or init."""
    rung: str
    """The precision."""
    name: str
    """What was compared: a tap, a parameter, a result."""
    error: float
    budget: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """A NaN error does not."""
        return self.error <= self.budget


@dataclass(frozen=True)
class LadderReport:
    """Every comparison of one model, in the order in which a difference would spread."""

    title: str
    rows: tuple[Row, ...]
    zero_gradients: tuple[str, ...] = ()
    """Parameters whose true gradient is zero. Adam divides by its size and amplifies rounding: their moments are compared, not
    their changes."""

    @property
    def passed(self) -> bool:
        """Whether every comparison stayed within its budget."""
        return all(row.passed for row in self.rows)

    @property
    def first_bad(self) -> Row | None:
        """The first tensor that left its budget: later ones may only have inherited the difference."""
        return next((row for row in self.rows if not row.passed), None)

    @property
    def cause(self) -> str:
        """What usually makes the first bad tensor differ; empty where nothing does."""
        return "" if self.first_bad is None else likely_cause(self.first_bad.stage, self.first_bad.name)

    def summary(self) -> str:
        """One line: passed, or what left its budget first and why that happens."""
        bad = self.first_bad
        if bad is None:
            return f"{self.title}: {len(self.rows)} comparisons within budget"
        failed = sum(not row.passed for row in self.rows)
        return (
            f"{self.title}: {failed} of {len(self.rows)} comparisons out of budget, first {bad.stage} ({bad.rung}) {bad.name}: "
            f"error {bad.error:.3g}, budget {bad.budget:.3g}{f' [{bad.note}]' if bad.note else ''}. Likely cause: {self.cause}"
        )

    def to_json(self) -> str:
        """All of it; infinite errors are written as the string ``inf``."""
        rows = [asdict(row) | {"passed": row.passed, "error": _finite(row.error)} for row in self.rows]
        bad = self.first_bad
        return json.dumps(
            {
                "title": self.title,
                "passed": self.passed,
                "first_bad": None
                if bad is None
                else {"stage": bad.stage, "rung": bad.rung, "name": bad.name, "cause": self.cause},
                "zero_gradients": list(self.zero_gradients),
                "rows": rows,
            },
            indent=1,
            allow_nan=False,
        )


def print_report(report: LadderReport, console: Console | None = None) -> None:
    """A table of the worst comparison of each stage, then the verdict."""
    console = console or Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"parity: {report.title}", title_justify="left")
    for column, justify in (
        ("stage", "left"),
        ("precision", "left"),
        ("compared", "right"),
        ("worst", "left"),
        ("error", "right"),
    ):
        table.add_column(column, justify=justify)  # pyrefly: ignore
    table.add_column("budget", justify="right")
    table.add_column("")
    for rows in _groups(report.rows):
        worst = max(rows, key=_badness)
        verdict = "[green]ok[/]" if all(row.passed for row in rows) else "[red]FAILED[/]"
        error, budget = (_number(value) for value in (worst.error, worst.budget))
        table.add_row(worst.stage, worst.rung, str(len(rows)), worst.name, error, budget, verdict)
    console.print(table)
    if report.zero_gradients:
        console.print(f"zero gradient, compared before Adam's division: {', '.join(report.zero_gradients)}", highlight=False)
    console.print(f"[{'green' if report.passed else 'red'}]{report.summary()}[/]", highlight=False)


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.stage, row.rung), []).append(row)
    return list(groups.values())


def _badness(row: Row) -> float:
    if not row.passed:
        return math.inf
    return row.error / row.budget if row.budget else 0.0


def _number(value: float) -> str:
    return "exact" if value == 0 else f"{value:.1e}"


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"
