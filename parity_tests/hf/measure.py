"""Measures every case against ``transformers`` and writes the table of docs/conversion.md.

Run it as ``python -m parity_tests.hf.measure``; with names of families it measures these alone.
"""

import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import jax
import numpy as np

import jax_transformer as jt
import torch_reference as tr
from jax_transformer.convert.hf import FAMILY
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import our_inputs, save, their_logits, torch, transformers
from parity_tests.tolerances import relative_error

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conversion.md"
BEGIN, END = "<!-- measured by python -m parity_tests.hf.measure -->", "<!-- end of what was measured -->"


def errors(case: str) -> tuple[float, float]:
    """Largest difference of the logits, in units of the largest: of the mirror, of JAX."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = their_logits(save(case, Path(folder) / "hf"), case)
        mirror, ours = tr.load_pretrained(Path(folder) / "hf"), jt.load_pretrained(Path(folder) / "hf")
    given = our_inputs(mirror, case)
    with torch.no_grad():
        torch_logits = mirror(*map(torch.from_numpy, given))[0].numpy()
    jax_logits = np.asarray(jax.jit(lambda *tokens: ours(*tokens)[0])(*given))
    return relative_error(torch_logits, wanted), relative_error(jax_logits, wanted)


def measured(name: str) -> str:
    """The line of a family: how many configs, and the largest errors."""
    worst = [0.0, 0.0]
    own = [case for case, (model_type, _) in CASES.items() if model_type == name]
    for case in own:
        new = errors(case)
        worst = [max(pair) for pair in zip(worst, new, strict=True)]
        print(f"{case}: {new[0]:.1e} {new[1]:.1e}", flush=True)
    return f"| `{name}` | `{FAMILY[name].architecture}` | {len(own)} | {worst[0]:.1e} | {worst[1]:.1e} |"


def write(line: str) -> None:
    """Put the line of one family in the place of its old one, between the two marks of the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    table, after = rest.split(END)
    present = [row for row in table.splitlines() if row.startswith("| `") and "model_type" not in row]
    lines = {row.split("`")[1]: row for row in (*present, line)}
    head = f"Against transformers {transformers.__version__}, float32, worst of the configs.\n\n"
    head += "| `model_type` | class | configs | error, torch | error, JAX |\n|---|---|---|---|---|\n"
    kept = "\n".join(lines[name] for name in FAMILY if name in lines)
    PAGE.write_text(f"{before}{BEGIN}\n{head}{kept}\n{END}{after}", encoding="utf-8")


def main(names: Collection[str]) -> None:
    """Measure the families ``names``, or all; each line is written at once, so that a run that is stopped can go on."""
    for name in names or FAMILY:
        write(measured(name))


if __name__ == "__main__":
    main(sys.argv[1:])
