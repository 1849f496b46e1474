"""Two sets of answers -> rows: how far apart, and how far they may be."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from parity_tests import tolerances
from parity_tests.measured import Batch, Forward, Hub, Trained
from parity_tests.report import Row
from parity_tests.tolerances import FLOAT64, relative_error


class Truth:
    """The float64 result for the weights of a low-precision rung, and how far rounding those weights moves each tensor."""

    def __init__(self, result: Forward, eps: float):
        self.result = result
        self.eps = eps
        self.moved: dict[tuple[str, str], float] = {}
        """(kind, name) -> largest error seen."""
        self.scales = {("taps", name): size(value) for name, value in result.taps.items()}
        # A gradient of zero is the noise of larger terms that cancel: it has no scale but theirs.
        self.whole = whole = largest(result.gradients)
        floors = dict.fromkeys(result.gradients, tolerances.LOW_FLOOR * whole) | dict.fromkeys(
            zero_gradients(result.gradients), whole
        )
        self.scales |= {("gradients", name): size(value) + floors[name] for name, value in result.gradients.items()}

    def errors(self, other: Forward) -> dict[tuple[str, str], float]:
        """Distance of another result from this one, each tensor relative to its scale."""
        return {
            (kind, name): relative_error(
                getattr(other, kind)[name], np.asarray(getattr(self.result, kind)[name], np.float64), scale
            )
            for (kind, name), scale in self.scales.items()
            if name in getattr(other, kind)
        }

    def observe(self, other: Forward) -> None:
        """Take in the result for weights that were rounded at random."""
        for key, error in self.errors(other).items():
            self.moved[key] = max(error, self.moved.get(key, 0.0))

    def budget(self, key: tuple[str, str]) -> float:
        """What an error of this tensor may be."""
        growth = self.moved[key] / self.eps
        if key[0] == "gradients":
            return tolerances.low_precision_gradient_budget(self.eps, growth, self.scales[key] / self.whole)
        return tolerances.low_precision_budget(self.eps, growth)


def compare_structure(jax: Mapping, torch: Mapping) -> Iterator[Row]:
    """Same names, shapes and dtypes of the parameters."""
    for name in dict.fromkeys((*jax, *torch)):
        note = "" if jax.get(name) == torch.get(name) else f"JAX {jax.get(name)}, torch {torch.get(name)}"
        yield Row("structure", "config", name, float("inf") if note else 0.0, 0.0, note)


def compare_bits(side: str, rung: str, got: Hub, want: Hub) -> Row:
    """Weights that went through a framework's own parameters come back bit by bit."""
    changed = [name for name in want if name not in got or not _same_bits(got[name], want[name])]
    name = f"{side}: {changed[0]}" if changed else f"{side}: {len(want)} tensors"
    return Row("round trip", rung, name, float(len(changed)), 0.0, f"{len(changed)} tensors differ" if changed else "")


def compare_forward(rung: str, jax: Forward, torch: Forward) -> Iterator[Row]:
    """Float64: activations in the order of the computation, the loss, then gradients from the loss backwards."""
    yield from _same_taps(rung, jax.taps, torch.taps)
    for name in _shared(torch.taps, jax.taps):
        yield Row("forward", rung, name, relative_error(torch.taps[name], jax.taps[name]), FLOAT64)
    yield Row("forward", rung, "loss", relative_error(np.asarray(torch.loss), np.asarray(jax.loss)), FLOAT64)
    floor = tolerances.FLOOR * largest(jax.gradients)
    for name in reversed(torch.gradients):
        want = jax.gradients[name]
        yield Row("gradient", rung, name, relative_error(torch.gradients[name], want, size(want) + floor), FLOAT64)


def compare_low(rung: str, jax: Forward, torch: Forward, truth: Truth) -> Iterator[Row]:
    """A low precision: both frameworks against the float64 truth, within the measured growth of rounding errors."""
    yield from _same_taps(rung, jax.taps, torch.taps)
    yield from _casts(rung, jax.taps, torch.taps)
    jax_errors, torch_errors = truth.errors(jax), truth.errors(torch)
    order = {"taps": _shared(torch.taps, jax.taps), "gradients": list(reversed(torch.gradients))}
    for kind, stage in (("taps", "forward"), ("gradients", "gradient")):
        keys = [(kind, name) for name in order[kind]]
        for key in keys:
            for framework, errors in (("jax", jax_errors), ("torch", torch_errors)):
                yield Row(stage, rung, key[1], errors[key], truth.budget(key), framework)
        # Below the effect of rounding the weights, which error is the larger one is chance.
        noise = {key: max(truth.moved[key], truth.eps) for key in keys}
        ratios = [np.log(max(torch_errors[key], noise[key]) / max(jax_errors[key], noise[key])) for key in keys]
        yield Row(stage, rung, "errors of both", float(np.exp(abs(np.mean(ratios)))), tolerances.SIMILAR)


def compare_casts(rung: str, jax: Forward, torch: Forward, truth: Truth) -> Iterator[Row]:
    """A low precision in which no budget holds: the same taps, and the same bits as far as they are decided."""
    yield from _same_taps(rung, jax.taps, torch.taps)
    yield from _casts(rung, jax.taps, torch.taps)


def _casts(rung: str, jax: Hub, torch: Hub) -> Iterator[Row]:
    """In 16 bits, the same bits up to the first activation function: every cast is at the same place.

    Or up to the first attention without probabilities: a form that never holds them rounds other numbers. The delta rule
    (which has a ``decay``) has one way of rounding.
    """
    for name in _shared(torch, jax):
        if name.endswith(tolerances.FIRST_ACTIVATION) or _is_mixed_by_another_form(name, jax):
            return
        same_kind = jax[name].dtype == torch[name].dtype and jax[name].shape == torch[name].shape
        if same_kind and jax[name].dtype.itemsize == 2:
            different = jax[name].view(np.int16) != torch[name].view(np.int16)
            few = int(different.any(axis=-1).sum()) <= tolerances.DIFFERENT_ROWS
            yield Row("casts", rung, name, 0.0 if few else float(different.mean()), tolerances.DIFFERENT_BITS)


def _is_mixed_by_another_form(name: str, taps: Hub) -> bool:
    prefix, _, last = name.rpartition(".")
    return last == "mixed" and f"{prefix}.probabilities" not in taps and f"{prefix}.decay" not in taps


def compare_trained(run: str, start: Hub, jax: Trained, torch: Trained, shaken: Trained) -> Iterator[Row]:
    """Moments, then the change of every parameter relative to the size of the change: doing nothing has an error of 1.

    Elements of which Adam ever divided little more than noise are left out of the change. ``shaken`` is what JAX answers for
    weights that were rounded once more: where that moves a result far, the model is ill-conditioned and the budget follows.
    """
    moved = {row.name: row.error for row in _trained_rows(run, start, jax, shaken)}
    for row in _trained_rows(run, start, jax, torch):
        yield replace(row, budget=tolerances.trained_budget(moved[row.name]))


def _trained_rows(run: str, start: Hub, jax: Trained, torch: Trained) -> Iterator[Row]:
    for kind, power in (("first", 1), ("second", 2)):
        ours, theirs = getattr(jax, kind), getattr(torch, kind)
        floor = tolerances.FLOOR**power * largest(ours)
        for name, want in ours.items():
            error = relative_error(theirs[name], want, size(want) + floor)
            yield Row("optimizer", run, f"{name} {kind} moment", error, FLOAT64)
    limit = tolerances.DETERMINED * largest(jax.second) ** 0.5
    for name in start:
        kept = (jax.smallest[name] >= limit) & (torch.smallest[name] >= limit)
        got, want = (np.where(kept, side.params[name] - start[name], 0.0) for side in (torch, jax))
        left_out = f"{kept.size - int(kept.sum())} of {kept.size} elements left out" if not kept.all() else ""
        yield Row("optimizer", run, f"{name} change", relative_error(got, want), FLOAT64, left_out)


def compare_decoded(
    batch: Batch, jax: Mapping[str, np.ndarray], torch: Mapping[str, np.ndarray], laws: tuple[str, ...]
) -> Iterator[Row]:
    """Logits at real tokens: everything across, and in each framework against the full ones what is a law (``cached``,
    ``plain``)."""
    real = batch.real if jax["full"].ndim == 3 else slice(None)
    for name in jax:
        chosen = slice(None) if name == "plain" else real
        yield Row("decode", "float64", f"{name} across", relative_error(torch[name][chosen], jax[name][chosen]), FLOAT64)
    for side, logits in (("jax", jax), ("torch", torch)):
        if "cached" in laws and "decoded" in logits:
            error = relative_error(logits["decoded"][real], logits["full"][real])
            yield Row("decode", "float64", f"{side} cached against full", error, FLOAT64)
        if "plain" in laws:
            error = relative_error(logits["plain"][0], logits["full"][0])
            yield Row("decode", "float64", f"{side} plain against full", error, FLOAT64)


def compare_state(jax: Hub, torch: Hub) -> Iterator[Row]:
    """What every layer's cache holds in the end. The last call's part of it no logits have seen yet."""
    for name in dict.fromkeys((*torch, *jax)):
        both = name in jax and name in torch
        yield Row("decode state", "float64", name, relative_error(torch[name], jax[name]) if both else float("inf"), FLOAT64)


def compare_initial(jax: Hub, torch: Hub) -> Iterator[Row]:
    """Constants are equal; random values have the same standard deviation, pooled over weights of the same role."""
    pooled: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for name, want in jax.items():
        role = "residual projections" if ".o_proj." in name or ".down_proj." in name else "matrices"
        role = "decay rates" if name.endswith(".A_log") else role
        if role != "decay rates" and (want.ndim == 1 or np.ptp(want) == 0):
            yield Row("init", "config", name, relative_error(torch[name], want), 0.0)
            continue
        for values, side in zip(pooled.setdefault(role, ([], [])), (want, torch[name]), strict=True):
            values.append(np.asarray(side, np.float64).ravel())
    for role, sides in pooled.items():
        a, b = (np.concatenate(values) for values in sides)
        # From n normal values it has a relative standard error of 1 / sqrt(2 n); the difference of two has sqrt(2) times that.
        budget = tolerances.INIT_SIGMAS / a.size**0.5
        error = abs(np.log(np.sqrt(np.mean(b**2)) / np.sqrt(np.mean(a**2))))
        yield Row("init", "config", f"standard deviation of {role}", float(error), budget)


def size(value: np.ndarray) -> float:
    """Largest absolute value; 0 for an empty array."""
    return float(np.max(np.abs(np.asarray(value, np.float64)), initial=0.0))


def largest(tensors: Mapping[str, np.ndarray]) -> float:
    """Largest absolute value of any tensor."""
    return max(size(value) for value in tensors.values())


def zero_gradients(gradients: Hub) -> tuple[str, ...]:
    """Parameters whose gradient is zero but for rounding."""
    limit = tolerances.ZERO_GRADIENT * largest(gradients)
    return tuple(sorted(name for name, value in gradients.items() if size(value) < limit))


def _same_taps(rung: str, jax: Hub, torch: Hub) -> Iterator[Row]:
    odd = sorted(jax.keys() ^ torch.keys())
    odd += [
        f"{name}: JAX {jax[name].dtype}, torch {torch[name].dtype}"
        for name in _shared(torch, jax)
        if jax[name].dtype != torch[name].dtype
    ]
    if odd:
        name = odd[0].partition(":")[0]
        yield Row("forward", rung, name, float("inf"), 0.0, f"name or dtype on one side only: {odd[0]}")


def _shared(first: Iterable[str], second: Mapping[str, object]) -> list[str]:
    return [name for name in first if name in second]


def _same_bits(got: np.ndarray, want: np.ndarray) -> bool:
    return got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes()
