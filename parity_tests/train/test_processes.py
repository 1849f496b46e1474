"""Two real processes train one model together, stop together, and one process can go on from what they saved."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jax_transformer import config
from jax_transformer.config.load import save_config
from parity_tests.tolerances import FLOAT32_MODULE
from parity_tests.train.runs import tiny_model, tiny_run

STEPS = 60


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Without dropout: which row of the batch sits where depends on the number of processes.
    block = tiny_model().stack.pattern[1]
    model = tiny_model(stack=config.Stack(pattern=(block,), num_layers=2))
    path = tmp_path_factory.mktemp("processes") / "run.yaml"
    save_config(tiny_run(model=model, steps=STEPS, evaluate_every=30), path)
    return path


def start(run_file: Path, folder: Path, count: int) -> list[subprocess.Popen]:
    """The training command in ``count`` processes with four devices in all."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(4 // count),
        "JAX_COMPILATION_CACHE_DIR": str(run_file.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    base = [sys.executable, "-m", "jax_transformer", "train", str(run_file), "--folder", str(folder), "--resume"]
    together = ["--coordinator", address, "--num-processes", str(count), "--process-id"]
    return [
        subprocess.Popen([*base, *([*together, str(i)] if count > 1 else [])], env=environment, stderr=subprocess.STDOUT)
        for i in range(count)
    ]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.fault
def test_two_processes_train_stop_and_hand_over(run_file: Path) -> None:
    alone, together = run_file.parent / "alone", run_file.parent / "together"
    assert [process.wait(timeout=240) for process in start(run_file, alone, 1)] == [0]
    pair = start(run_file, together, 2)
    while not (together / "metrics.jsonl").exists() or len(losses(together)) < 10:
        assert all(process.poll() is None for process in pair)
        time.sleep(0.01)
    pair[1].send_signal(signal.SIGTERM)
    assert [process.wait(timeout=120) for process in pair] == [143, 143]
    stopped = len(losses(together))
    assert 10 <= stopped < STEPS
    assert [process.wait(timeout=240) for process in start(run_file, together, 2)] == [0, 0]
    np.testing.assert_allclose(losses(together), losses(alone), **FLOAT32_MODULE)
    assert (together / "export" / "model.safetensors").exists()
