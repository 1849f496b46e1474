"""Writing a folder of weights: it appears whole or not at all, and memory holds one tensor at a time."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.hub import open_weights, write_weights
from parity_tests.convert.folders import SPECS, TENSORS, assert_holds, contents, run_python, write


def failing(tensors, error):
    yield from list(tensors.items())[:5]
    raise error


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("x"), KeyboardInterrupt()])
def test_a_failed_export_leaves_nothing_new(tmp_path, error, overwrite):
    if overwrite:
        write(tmp_path / "model")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WeightsError if isinstance(error, OSError) else type(error)):
        write_weights(tmp_path / "model", SPECS, failing(TENSORS, error), overwrite=overwrite)
    assert sorted(tmp_path.rglob("*")) == before


WRONG = {
    "missing": list(TENSORS.items())[:-1],
    "twice": [*TENSORS.items(), ("layers.0.weight", TENSORS["layers.0.weight"])],
    "unknown": [*TENSORS.items(), ("layers.99.weight", TENSORS["layers.0.weight"])],
    "shape": [*list(TENSORS.items())[1:], ("layers.0.weight", np.zeros((8, 4), np.float32))],
    "dtype": [*list(TENSORS.items())[1:], ("layers.0.weight", np.zeros((4, 8), np.int32))],
    "byte order": [*list(TENSORS.items())[1:], ("layers.0.weight", np.zeros((4, 8), ">f4"))],
}


@pytest.mark.parametrize("tensors", WRONG.values(), ids=WRONG.keys())
def test_tensors_are_exactly_the_announced_ones(tmp_path, tensors):
    with pytest.raises(WeightsError, match=r"layers\.(0|11|99)\.weight"):
        write_weights(tmp_path / "model", SPECS, tensors)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_noticed_before_writing(tmp_path):
    huge = {"w": ((2**46,), np.dtype(np.float32))}
    with pytest.raises(WeightsError, match="free"):
        write_weights(tmp_path / "model", huge, iter([]))
    assert list(tmp_path.iterdir()) == []


def test_a_dtype_without_a_name_in_the_format_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="complex64"):
        write_weights(tmp_path / "model", {"w": ((1,), np.dtype(np.complex64))}, iter([]))


def test_what_could_not_be_read_is_not_written(tmp_path):
    many = {f"tensor.{i:060}": ((), np.dtype(np.int8)) for i in range(40_000)}
    with pytest.raises(WeightsError, match="max_shard_bytes"):
        write_weights(tmp_path / "model", many, iter([]))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_replaced_only_on_request(tmp_path):
    write(tmp_path / "model", max_shard_bytes=300)
    with pytest.raises(WeightsError, match="overwrite"):
        write(tmp_path / "model")
    write(tmp_path / "model", overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    assert sorted(contents(tmp_path / "model")) == ["model.safetensors", "model.sha256"]


@pytest.mark.parametrize("foreign", ["thesis.tex", "checkpoints/1/x"])
def test_a_folder_that_holds_more_than_weights_is_never_replaced(tmp_path, foreign):
    (tmp_path / foreign).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / foreign).write_text("years of work")
    with pytest.raises(WeightsError, match="more than weights"):
        write(tmp_path, overwrite=True)
    with pytest.raises(WeightsError, match="is a file"):
        write(tmp_path / foreign, overwrite=True)
    assert (tmp_path / foreign).read_text() == "years of work"


SLOW_EXPORT = """
import sys, time
import numpy as np
from jax_transformer.convert.hub import write_weights
specs = {f"w{i}": ((1000,), np.dtype(np.float32)) for i in range(40)}
def tensors():
    for i in range(40):
        print(i, flush=True)
        time.sleep(0.005)
        yield f"w{i}", np.ones(1000, np.float32)
write_weights(sys.argv[1], specs, tensors(), {"config.json": b"{}"}, max_shard_bytes=int(sys.argv[2]), overwrite=True)
"""


@pytest.mark.fault
def test_a_killed_export_leaves_nothing_that_opens(tmp_path):
    """SIGKILL at several moments, with and without a folder to replace; the next export sweeps up."""
    folder = tmp_path / "model"
    for trial, (shard_bytes, replacing) in enumerate([(10**9, False), (20_000, False), (10**9, True), (20_000, True)]):
        if replacing and not folder.exists():
            write(folder)
        process = run_python(SLOW_EXPORT, folder, shard_bytes, stdout=subprocess.PIPE, text=True)
        while int(process.stdout.readline()) < 9 * trial + 2:
            pass
        time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        (left,) = tmp_path.glob("model.tmp-*")
        with pytest.raises(WeightsError):
            open_weights(left)
        if replacing:
            assert_holds(folder)
        else:
            assert not folder.exists()
            write(tmp_path / "neighbour", overwrite=True)
            assert left.exists()
        write(folder, overwrite=True)
        assert not left.exists()
        if not replacing:
            shutil.rmtree(folder)


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    write(tmp_path / "model")
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / "model").rename(tmp_path / f"model.old-{dead.pid}")
    with pytest.raises(WeightsError, match="exists already"):
        write(tmp_path / "model")
    assert_holds(tmp_path / "model")


def test_a_running_export_is_left_alone(tmp_path):
    running = tmp_path / f"model.tmp-{os.getppid()}"
    running.mkdir()
    write(tmp_path / "model")
    assert running.exists()


MEMORY = """
import re, sys
import numpy as np
from jax_transformer.convert.hub import open_weights, write_weights
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
specs = {f"w{i}": ((1024, 2048), np.dtype(np.float32)) for i in range(25)}
peak, start = 0, anonymous()
def tensors():
    global peak
    for name in specs:
        yield name, np.ones((1024, 2048), np.float32)
        peak = max(peak, anonymous())
write_weights(sys.argv[1], specs, tensors(), max_shard_bytes=60_000_000)
weights = open_weights(sys.argv[1])
def copies():
    global peak
    for name in weights:
        array = weights.read(name)
        peak = max(peak, anonymous())
        yield name, array
write_weights(sys.argv[1] + "-copy", specs, copies())
print(peak - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory by /proc")
def test_memory_is_bounded_by_one_tensor_not_by_the_model(tmp_path):
    """200 MiB in 8 MiB tensors, written, read, written again: at most two tensors and the chunks at a time."""
    process = run_python(MEMORY, tmp_path / "model", stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert int(output) < 32 * 2**20
