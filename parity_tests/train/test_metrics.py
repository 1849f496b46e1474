"""metrics.jsonl and TensorBoard hold each step once, whatever happened to the process; the picture draws what is there."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from jax_transformer.config.errors import DataError
from jax_transformer.train.metrics import METRICS, MetricsWriter, plot_loss, read_metrics
from jax_transformer.train.progress import Progress


def write(folder: Path, steps: range) -> None:
    writer = MetricsWriter(folder)
    for step in steps:
        writer.write(step, {"loss": 1.0 / step, "grad_norm": 0.5})
    writer.close()


def steps_of(folder: Path) -> list[int]:
    return [row["step"] for row in read_metrics(folder)]


def test_each_line_is_on_disk_as_soon_as_it_is_written(tmp_path: Path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"loss": np.float32(2.5), "tokens": 7})
    assert (tmp_path / METRICS).read_text() == '{"step": 1, "loss": 2.5, "tokens": 7}\n'
    writer.close()


def test_number_that_is_not_finite_is_null_and_the_file_stays_json(tmp_path: Path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"loss": float("nan"), "grad_norm": float("inf")})
    writer.close()
    assert json.loads((tmp_path / METRICS).read_text(), parse_constant=pytest.fail) == {
        "step": 1,
        "loss": None,
        "grad_norm": None,
    }


def test_resume_leaves_each_step_once(tmp_path: Path):
    write(tmp_path, range(1, 9))
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 9, "lo')  # killed while it wrote
    writer = MetricsWriter(tmp_path)
    writer.truncate_after(5)
    assert steps_of(tmp_path) == [1, 2, 3, 4, 5]
    writer.write(6, {"loss": 0.0})
    writer.truncate_after(4)
    writer.write(5, {"loss": 0.25})
    writer.close()
    assert steps_of(tmp_path) == [1, 2, 3, 4, 5]
    assert read_metrics(tmp_path)[-1]["loss"] == 0.25


def test_first_write_without_truncation_forgets_its_own_step_and_the_later_ones(tmp_path: Path):
    write(tmp_path, range(1, 9))
    write(tmp_path, range(4, 6))
    assert steps_of(tmp_path) == [1, 2, 3, 4, 5]


def test_steps_go_forward(tmp_path: Path):
    writer = MetricsWriter(tmp_path)
    writer.write(3, {})
    with pytest.raises(ValueError, match="step 3 comes after step 3"):
        writer.write(3, {})
    writer.close()


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path: Path):
    write(tmp_path, range(1, 5))
    write(tmp_path, range(3, 6))
    shown: dict[int, float] = {}
    for start, events in board_events(tmp_path):
        shown = {step: value for step, value in shown.items() if step < start} | events
    assert shown == pytest.approx({step: 1.0 / step for step in range(1, 6)})


def board_events(folder: Path) -> list[tuple[int, dict[int, float]]]:
    """Per event file, oldest first: the step it purges from, and its {step: loss}."""
    from tensorboardX.proto.event_pb2 import Event

    files = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data, at, start, losses = path.read_bytes(), 0, 0, {}
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            if event.HasField("session_log"):
                start = event.step
            losses.update((event.step, value.simple_value) for value in event.summary.value if value.tag == "loss")
        files.append((start, losses))
    return files


def test_broken_line_in_the_middle_is_named(tmp_path: Path):
    (tmp_path / METRICS).write_text('{"step": 1}\n\0\0\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not a JSON object with a step"):
        read_metrics(tmp_path)


def test_picture_draws_rows_with_gaps_and_refuses_an_empty_run(tmp_path: Path):
    with pytest.raises(DataError, match="no steps to draw"):
        plot_loss(tmp_path)
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"loss": float("nan"), "learning_rate": 0.1})
    writer.write(2, {"loss": 2.0, "validation_loss": 2.5})
    writer.close()
    assert plot_loss(tmp_path).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.png", METRICS, "tensorboard"]


VALUES = {"loss": 1.25, "tokens_per_second": 12345.6, "unknown": 3.0}


def test_progress_without_a_terminal_prints_lines_and_always_the_last_step():
    out = io.StringIO()
    with Progress(4, console=Console(file=out), seconds=1e9) as progress:
        for step in range(1, 5):
            progress.update(step, VALUES)
        progress.note("[saved] step 4")
    lines = out.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 1/4", "step 4/4", "[saved] step 4"]
    assert lines[1] == "step 4/4  loss 1.2500  tok/s 12,346  eta 0:00:00"


def test_progress_on_a_terminal_is_a_bar_that_ends_at_the_last_step():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with Progress(4, start_step=2, console=console) as progress:
        progress.update(4, VALUES)
        progress.note("saved")
    assert "4/4" in out.getvalue()
    assert "loss 1.2500" in out.getvalue()
    assert "saved" in out.getvalue()
