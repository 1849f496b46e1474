"""The parity ladder: one config or checkpoint, both frameworks, from structure to optimizer steps.

A rung is only as good as the one below it: parameters of the same names and shapes, weights that arrive bit by bit,
activations, loss, gradients, optimizer steps, cached decoding, initial values; all in float64, where rounding is no excuse.
Then activations and gradients in lower precisions, each against the float64 truth for the same weights.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from jax_transformer.config import Encoder, Model, Moe, Rope, Run, Train
from jax_transformer.config.load import load_config
from jax_transformer.config.tree import nodes
from jax_transformer.convert.hub import check_finite, open_weights
from jax_transformer.convert.pretrained import convert
from parity_tests import compare
from parity_tests.inputs import Inputs, cast_all, draw_inputs, rounded
from parity_tests.jax_side import EXPLICIT_CASTS, UNOPTIMIZED, JaxSide
from parity_tests.measured import TRAIN, Batch, Decoded, Forward, Hub, Measured, Plan, Trained
from parity_tests.report import LadderReport, Row, print_report
from parity_tests.tolerances import GROWTH_DRAWS, JUMPS_FROM, RUNGS, Rung
from parity_tests.torch_side import TorchSide

DEFAULT = Plan()
DECODED_AT_ONCE = (4, 1)
"""Tokens per call of the cached decode, by the parity of the plan's seed: one shape, so one compilation."""


class Side(Protocol):
    """One framework's answers for one config."""

    config: Model

    def structure(self) -> dict[str, tuple[tuple[int, ...], str]]: ...
    def export(self, weights: Hub) -> Hub: ...
    def forward(self, weights: Hub, batch: Batch) -> Forward: ...
    def plain_logits(self, weights: Hub, batch: Batch) -> np.ndarray: ...
    def decode(self, weights: Hub, batch: Batch, at_once: int) -> Decoded: ...
    def train(self, weights: Hub, batches: tuple[Batch, ...], train: Train) -> dict[int, Trained]: ...
    def initial(self, seed: int) -> Hub: ...


@dataclass(frozen=True)
class Reference:
    """The JAX half of a ladder: computed once, compared with any number of torch halves."""

    config: Model
    plan: Plan
    inputs: Inputs
    structure: dict[str, tuple[tuple[int, ...], str]]
    measured: Measured
    shaken: Mapping[str, Trained]
    """Optimizer steps from weights that were rounded once more."""
    truths: Mapping[str, compare.Truth]
    """By low-precision rung."""


def run_ladder(config: Model, weights: Hub | None = None, plan: Plan = DEFAULT, title: str = "model") -> LadderReport:
    """Climb every rung of ``plan`` with ``config`` in both frameworks.

    ``weights`` are hub tensors; without them random ones are made, in which every parameter matters. Needs JAX's 64-bit mode.
    """
    return compare_torch(measure_jax(config, weights, plan), title=title)


def measure_jax(config: Model, weights: Hub | None = None, plan: Plan = DEFAULT) -> Reference:
    """The JAX half: answers at every rung, and how rounding errors grow."""
    structure = JaxSide(config).structure()
    inputs = draw_inputs(config, {name: shape for name, (shape, _) in structure.items()}, weights, plan)
    wide = JaxSide(_with_dtype(config, RUNGS["float64"]), None if plan.optimize else UNOPTIMIZED)
    low = {name: _with_dtype(config, rung) for name, rung in _low_rungs(config, plan).items()}
    sides: dict[str, Side] = {name: JaxSide(own, EXPLICIT_CASTS) for name, own in low.items()}
    measured = _measure(wide, sides, inputs, plan)
    shaken = _train(wide, rounded(inputs.weights, RUNGS["float64"].eps, plan.seed), inputs, plan)
    truths = {name: _truth(wide, rung, inputs) for name, rung in _low_rungs(config, plan).items()}
    return Reference(config, plan, inputs, structure, measured, shaken, truths)


def compare_torch(reference: Reference, config: Model | None = None, title: str = "model") -> LadderReport:
    """The torch half, of ``config`` where another one than the reference's is given, and the comparison."""
    config = reference.config if config is None else config
    rows = list(compare.compare_structure(reference.structure, TorchSide(config).structure()))
    if not all(row.passed for row in rows):
        return LadderReport(title, tuple(rows))
    rungs = _low_rungs(config, reference.plan)
    sides: dict[str, Side] = {name: TorchSide(_with_dtype(config, rung)) for name, rung in rungs.items()}
    wide = TorchSide(_with_dtype(config, RUNGS["float64"]))
    torch = _measure(wide, sides, reference.inputs, reference.plan)
    rows.extend(_compare(reference, torch))
    return LadderReport(title, tuple(rows), compare.zero_gradients(reference.measured.forward["float64"].gradients))


def _measure(wide: Side, sides: Mapping[str, Side], inputs: Inputs, plan: Plan) -> Measured:
    """One framework's answers; ``wide`` is its float64 side."""
    forward, exported = {}, {}
    for name, side in {"float64": wide, **sides}.items():
        weights = cast_all(inputs.weights, side.config.dtype.param)
        forward[name] = side.forward(weights, inputs.packed)
        exported[name] = side.export(weights)
    decoding = {
        "plain": wide.plain_logits(inputs.weights, inputs.ragged),
        "full": wide.forward(inputs.weights, inputs.ragged).taps["logits"],
    }
    state: Hub = {}
    if not isinstance(wide.config, Encoder):
        decoded = wide.decode(inputs.weights, inputs.ragged, DECODED_AT_ONCE[plan.seed % 2])
        decoding["decoded"], state = decoded.logits, decoded.state
    trained = _train(wide, inputs.weights, inputs, plan)
    return Measured(exported, forward, decoding, state, trained, wide.initial(plan.seed) if plan.init else {})


def _train(side: Side, weights: Hub, inputs: Inputs, plan: Plan) -> dict[str, Trained]:
    """By training config and step."""
    training = inputs.training[: plan.steps]
    runs = {name: side.train(weights, training, TRAIN[name]) for name in plan.runs}
    return {f"{name} step {step}": result for name, run in runs.items() for step, result in run.items()}


def _truth(wide: Side, rung: Rung, inputs: Inputs) -> compare.Truth:
    """One draw at a time: the gradients of a large model are not kept."""
    weights = cast_all(cast_all(inputs.weights, rung.dtype.param), "float64")
    truth = compare.Truth(wide.forward(weights, inputs.packed), rung.eps)
    for seed in range(GROWTH_DRAWS):
        truth.observe(wide.forward(rounded(weights, rung.eps, seed), inputs.packed))
    return truth


def _compare(reference: Reference, torch: Measured) -> Iterator[Row]:
    ours, inputs = reference.measured, reference.inputs
    for name, exported in ours.exported.items():
        want = cast_all(inputs.weights, _rung(reference.config, name).dtype.param)
        yield compare.compare_bits("jax", name, exported, want)
        yield compare.compare_bits("torch", name, torch.exported[name], want)
    wide = ours.forward["float64"]
    yield from compare.compare_forward("float64", wide, torch.forward["float64"])
    for name, trained in ours.trained.items():
        yield from compare.compare_trained(name, inputs.weights, trained, torch.trained[name], reference.shaken[name])
    laws = laws_of_decoding(reference.config, inputs.ragged.inputs["tokens"].shape[1])
    yield from compare.compare_decoded(inputs.ragged, ours.decoding, torch.decoding, laws)
    yield from compare.compare_state(ours.state, torch.state)
    yield from compare.compare_initial(ours.initial, torch.initial)
    for name, truth in reference.truths.items():
        jumps = truth.eps > JUMPS_FROM and any(isinstance(node, Moe) for node in nodes(reference.config))
        compared = compare.compare_casts if jumps else compare.compare_low
        yield from compared(name, ours.forward[name], torch.forward[name], truth)


def laws_of_decoding(config: Model, length: int) -> tuple[str, ...]:
    """Ways of computing the logits of a row that must agree with computing them at once, among the other rows as they are.

    Not through a cache, where a rotation depends on the length; in neither way, where tokens compete for experts.
    """
    if any(isinstance(node, Moe) and node.routes_by_batch for node in nodes(config)):
        return ()
    return ("plain",) if depends_on_length(config, length) else ("cached", "plain")


def depends_on_length(config: Model, length: int) -> bool:
    """Whether some rotation of a sequence of ``length`` tokens is not that of its beginning: a cache then holds older ones."""
    found = [field for field in nodes(config) if isinstance(field, Rope)]
    return any(rope.depends_on_length(length) for rope in found)


def _low_rungs(config: Model, plan: Plan) -> dict[str, Rung]:
    return {name: _rung(config, name) for name in plan.dtypes if name != "float64"}


def _rung(config: Model, name: str) -> Rung:
    return RUNGS[name] if name in RUNGS else Rung(name, config.dtype)


def _with_dtype(config: Model, rung: Rung) -> Any:
    return config.model_copy(update={"dtype": rung.dtype})


def main(target: str, overrides: list[str], report: Path | None, steps: int) -> int:
    """Climb the ladder with a preset, a config file (random weights), or an exchange or run folder (its own weights).

    Prints a table, writes every figure as JSON to ``report``; 0 if all passed, else 1. Turns on JAX's 64-bit mode.
    """
    jax.config.update("jax_enable_x64", True)
    config = load_config(target, overrides)
    config = config.model if isinstance(config, Run) else config
    result = run_ladder(
        config, load_weights(Path(target)), Plan(dtypes=("float64", "float32", "bfloat16"), steps=steps), target
    )
    print_report(result)
    if report is not None:
        report.write_text(result.to_json(), encoding="utf-8")
    return 0 if result.passed else 1


def load_weights(path: Path) -> Hub | None:
    """Hub tensors of an exchange folder or of a run folder's best step; None for anything else.

    Raises a UserError where they cannot be trusted.
    """
    if (path / "checkpoints").is_dir():
        with tempfile.TemporaryDirectory() as folder:
            convert(path, Path(folder) / "export")
            return load_weights(Path(folder) / "export")
    if not (path / "config.json").is_file():
        return None
    reader = open_weights(path)
    weights = {name: reader.read(name) for name in reader}
    for name, value in weights.items():
        check_finite(name, value)
    return weights
