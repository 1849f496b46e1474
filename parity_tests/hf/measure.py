"""Measures every case against ``transformers`` and writes the table of docs/conversion.md.

Run it as ``python -m parity_tests.hf.measure``.
"""

import tempfile
from pathlib import Path

import jax
import numpy as np

import jax_transformer as jt
import torch_reference as tr
from jax_transformer.convert.hf import FAMILY
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import our_inputs, relative_error, save, their_logits, torch, transformers

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


def main() -> None:
    """Measure, and rewrite the table between its two marks."""
    worst: dict[str, tuple[int, float, float]] = {}
    for case, (name, _) in CASES.items():
        count, mirror, ours = worst.get(name, (0, 0.0, 0.0))
        new = errors(case)
        worst[name] = (count + 1, max(mirror, new[0]), max(ours, new[1]))
        print(f"{case}: {new[0]:.1e} {new[1]:.1e}", flush=True)
    rows = [f"| `{name}` | `{family.architecture}` | {{}} | {{:.1e}} | {{:.1e}} |" for name, family in FAMILY.items()]
    lines = [row.format(*worst[name]) for row, name in zip(rows, FAMILY, strict=True)]
    head = f"Against transformers {transformers.__version__}, float32, worst of the configs.\n\n"
    head += "| `model_type` | class | configs | error, torch | error, JAX |\n|---|---|---|---|---|\n"
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{head}" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
