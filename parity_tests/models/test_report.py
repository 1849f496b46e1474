"""What the ladder reports, and its command."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from jax_transformer.config.load import save_config
from jax_transformer.convert.pretrained import save_pretrained
from jax_transformer.models import build_model
from parity_tests import ladder
from parity_tests.builders import decoder
from parity_tests.compare import Truth
from parity_tests.measured import Forward
from parity_tests.report import LadderReport, Row, print_report
from parity_tests.tolerances import LOW_PRECISION, LOW_PRECISION_FLOOR, relative_error

BAD = LadderReport(
    "tiny",
    (
        Row("forward", "float64", "stack.layers.1.attn.q", 1e-16, 1e-10),
        Row("forward", "float64", "stack.layers.1.attn.mixed", 0.5, 1e-10),
        Row("forward", "float64", "logits", float("inf"), 1e-10, "shape"),
    ),
    ("stack.layers.0.attn.k_proj.bias",),
)


def test_errors_are_relative_to_the_largest_value() -> None:
    assert relative_error(np.asarray([1.0, 99.0]), np.asarray([0.0, 100.0])) == pytest.approx(0.01)
    assert relative_error(np.zeros(3), np.zeros(3)) == 0
    assert relative_error(np.full(3, 1e-30), np.zeros(3)) == float("inf")
    assert relative_error(np.asarray([np.nan, 1.0]), np.ones(2)) == float("inf")
    assert relative_error(np.zeros(3), np.zeros((3, 1))) == float("inf")


def test_no_gradient_is_asked_for_more_than_the_rounding_of_the_largest() -> None:
    """As that of the one hidden unit of a network whose output a norm divides by its size: terms that cancel."""
    exact = {"largest": np.ones(2), "tiny": np.full(2, 1e-6), "still": np.full(2, 0.5), "moved": np.full(2, 0.5)}
    moves = {"largest": 1e-3, "tiny": 1e-3, "still": 1e-5, "moved": 1e-3}
    truth = Truth(Forward({}, 1.0, exact), eps=1e-3)
    truth.observe(Forward({}, 1.0, {name: value * (1 + moves[name]) for name, value in exact.items()}))
    budgets = {name: truth.budget(("gradients", name)) * truth.scales["gradients", name] / 1e-3 for name in exact}
    assert budgets["largest"] == pytest.approx(LOW_PRECISION)
    assert budgets["tiny"] == pytest.approx(LOW_PRECISION_FLOOR)
    assert budgets["still"] == pytest.approx(LOW_PRECISION_FLOOR)
    assert budgets["moved"] == pytest.approx(LOW_PRECISION / 2)


def test_the_first_bad_tensor_is_named_with_a_cause() -> None:
    assert not BAD.passed
    assert BAD.first_bad is not None
    assert BAD.first_bad.name == "stack.layers.1.attn.mixed"
    assert "window" in BAD.cause
    assert "2 of 3 comparisons out of budget" in BAD.summary()


def test_json_and_table_say_the_same() -> None:
    content = json.loads(BAD.to_json())
    assert content["first_bad"]["name"] == "stack.layers.1.attn.mixed"
    assert [row["passed"] for row in content["rows"]] == [True, False, False]
    console = Console(record=True, width=200, file=None, quiet=False)
    with console.capture() as capture:
        print_report(BAD, console)
    for text in ("FAILED", "stack.layers.1.attn.mixed", "k_proj.bias", "Likely cause"):
        assert text in capture.get()


def test_the_command_proves_an_exported_checkpoint(tmp_path: Path) -> None:
    save_pretrained(build_model(decoder(num_layers=2)), tmp_path / "export")
    assert ladder.main(str(tmp_path / "export"), [], tmp_path / "report.json", 1) == 0
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["passed"]
    assert {row["rung"] for row in content["rows"]} >= {"float64", "float32", "bfloat16", "clipped step 1"}


def test_the_command_fails_where_the_ladder_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "run_ladder", lambda *args: BAD)
    save_config(decoder(), tmp_path / "tiny.yaml")
    assert ladder.main(str(tmp_path / "tiny.yaml"), ["stack.num_layers=3"], None, 1) == 1
