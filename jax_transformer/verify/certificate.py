"""What a verification found: as a record that machines read, and as a table."""

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import jax_transformer
from jax_transformer.verify.checks import Check

FORMAT = 1
"""Version of the record's layout."""

_LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "torch", "transformers")


@dataclass(frozen=True)
class SideRecord:
    """One side: where it came from, and what it held."""

    source: str
    framework: str
    config_sha256: str
    structure_sha256: str
    tensors_sha256: str
    stored_dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Certificate:
    """The proof, or what stands in its way."""

    a: SideRecord
    b: SideRecord
    dtype: str
    """The dtype computed in."""
    seed: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check stayed within its limit."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> str:
        """All of it, with the versions of what computed it; an infinite error is the string ``inf``."""
        record = {
            "format": FORMAT,
            "passed": self.passed,
            "dtype": self.dtype,
            "seed": self.seed,
            "a": asdict(self.a),
            "b": asdict(self.b),
            "checks": [asdict(check) | {"error": _finite(check.error), "passed": check.passed} for check in self.checks],
            "versions": versions(),
        }
        return json.dumps(record, indent=1, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """The record as a file, replaced whole."""
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(self.to_json(), encoding="utf-8")
        partial.replace(path)


def versions() -> dict[str, str | None]:
    """Of Python, this package and every framework; None where one is not installed."""
    return {"python": platform.python_version(), "jax-transformer": jax_transformer.__version__} | {
        name: _version(name) for name in _LIBRARIES
    }


def print_certificate(certificate: Certificate, console: Console) -> None:
    """A row per check, then both sides, then the verdict."""
    table = Table(title=f"verify, computed in {certificate.dtype}", title_justify="left")
    columns: Sequence[tuple[str, Any]] = (("check", "left"), ("tokens", "right"), ("error", "right"), ("limit", "right"))
    for name, justify in (*columns, ("", "left"), ("note", "left")):
        table.add_column(name, justify=justify)
    for check in certificate.checks:
        verdict = "[green]ok[/]" if check.passed else "[red]FAILED[/]"
        tokens = "" if check.length is None else str(check.length)
        table.add_row(check.name, tokens, _number(check.error), _number(check.limit), verdict, check.note)
    console.print(table)
    for name, side in (("A", certificate.a), ("B", certificate.b)):
        console.print(f"{name}: {side.source} in {side.framework}, tensors {side.tensors_sha256[:16]}", highlight=False)
    failed = [check.name for check in certificate.checks if not check.passed]
    verdict = f"[red]not the same: {', '.join(failed)}[/]" if failed else "[green]the same[/]"
    console.print(verdict, highlight=False)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _number(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() else f"{value:.1e}"


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"
