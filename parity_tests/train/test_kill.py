"""A run that is killed, wherever it is, loses only the steps since its last checkpoint and continues to the same numbers."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jax_transformer.config.load import save_config
from parity_tests.train.restored import restore_params
from parity_tests.train.runs import tiny_run

STEPS = 240


class Runner:
    """Starts the training command on one config, with compiled code shared between the processes."""

    def __init__(self, root: Path):
        self.config = root / "run.yaml"
        self.environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        save_config(tiny_run(steps=STEPS, evaluate_every=40), self.config)

    def start(self, folder: Path, *extra: str) -> subprocess.Popen:
        """``jax-transformer train`` in ``folder``, resuming what is there."""
        arguments = ["train", str(self.config), *extra, "--folder", str(folder), "--resume"]
        with (folder.parent / f"{folder.name}.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "jax_transformer", *arguments], env=self.environment, stdout=log, stderr=log
            )

    def finish(self, folder: Path, *extra: str) -> int:
        """Run to the end; the exit code."""
        return self.start(folder, *extra).wait(timeout=300)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("kill"))


@pytest.fixture(scope="module")
def uninterrupted(runner: Runner) -> Path:
    folder = runner.config.parent / "uninterrupted"
    assert runner.finish(folder) == 0
    return folder


def lines(folder: Path) -> int:
    """How many steps have been logged."""
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def losses(folder: Path) -> dict[int, tuple[float, ...]]:
    """Everything that was measured at each step and does not depend on the clock."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len({row["step"] for row in rows}) == len(rows)
    names = ("loss", "grad_norm", "learning_rate", "validation_loss")
    return {row["step"]: tuple(row[name] for name in names if name in row) for row in rows}


def assert_same_run(folder: Path, expected: Path) -> None:
    """Every logged number and every parameter are equal to the last bit."""
    found, wanted = losses(folder), losses(expected)
    assert sorted(found) == list(range(1, STEPS + 1))
    assert found == wanted
    (params, _), (wanted_params, _) = (restore_params(path / "checkpoints") for path in (folder, expected))
    for name, value in wanted_params.items():
        np.testing.assert_array_equal(params[name], value, err_msg=name)
    assert not list((folder / "checkpoints").glob("*tmp*"))


def live(runner: Runner, folder: Path, ready: Callable[[], bool], strike: Callable[[subprocess.Popen], None]) -> int:
    """Start or resume; ``strike`` once ``ready``; the exit code (0 if the run was complete before)."""
    process = runner.start(folder)
    while not ready() and process.poll() is None:
        time.sleep(0.002)
    strike(process)
    return process.wait(timeout=120)


def kill_and_resume(runner: Runner, folder: Path, trials: int, seed: int) -> int:
    """SIGKILL ``trials`` lives of one run, every other one during a save, then let it finish; how many were killed."""
    generator, killed = random.Random(seed), 0
    for trial in range(trials):
        before = lines(folder)
        during_save = trial % 2 == 1

        def ready(before: int = before, during_save: bool = during_save) -> bool:
            moving = lines(folder) not in (0, before)
            return moving and (not during_save or any((folder / "checkpoints").glob("*.tmp")))

        def strike(process: subprocess.Popen, during_save: bool = during_save) -> None:
            time.sleep(generator.uniform(0, 0.01 if during_save else 0.15))
            process.send_signal(signal.SIGKILL)

        killed += live(runner, folder, ready, strike) == -signal.SIGKILL
    assert runner.finish(folder) == 0
    return killed


@pytest.mark.fault
def test_a_killed_run_resumes_to_the_same_bits(runner: Runner, uninterrupted: Path) -> None:
    folder = runner.config.parent / "killed"
    assert kill_and_resume(runner, folder, trials=4, seed=0) >= 3
    assert_same_run(folder, uninterrupted)


@pytest.mark.fault
@pytest.mark.slow
def test_twenty_kills_lose_nothing_but_steps_since_the_last_checkpoint(runner: Runner, uninterrupted: Path) -> None:
    killed = 0
    for chain in range(4):
        folder = runner.config.parent / f"killed{chain}"
        killed += kill_and_resume(runner, folder, trials=6, seed=chain + 1)
        assert_same_run(folder, uninterrupted)
    assert killed >= 20


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_current_step_and_exits_with_its_code(
    runner: Runner, uninterrupted: Path, number: signal.Signals
) -> None:
    folder = runner.config.parent / f"signal{number}"

    def strike(process: subprocess.Popen) -> None:
        process.send_signal(number)

    starting = live(runner, folder, lambda: (folder / "data").exists(), strike)
    assert starting == 128 + number
    training = live(runner, folder, lambda: lines(folder) > 5, strike)
    assert training == 128 + number
    saved = max(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())
    assert saved == lines(folder) < STEPS
    assert runner.finish(folder) == 0
    assert_same_run(folder, uninterrupted)
