"""Checkpoints under attack: damaged files, kill -9, a disk that refuses. A good step always remains."""

import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_transformer.config.errors import CheckpointError
from jax_transformer.train.checkpoint import Checkpointer
from jax_transformer.train.committed import choose_step, list_steps
from parity_tests.train.restored import restore_params

pytestmark = pytest.mark.fault
STATE = {"params": {"w": jnp.arange(12.0), "b": jnp.ones((3,), jnp.bfloat16)}, "step": jnp.int32(1)}
LIKE = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), STATE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the steps 1 and 2, to be copied before it is harmed."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpointer = Checkpointer(folder, keep_last=2, keep_best=True)
    for step in (1, 2):
        checkpointer.save(step, STATE | {"step": jnp.int32(step)}, {"step": step}, loss=1.0 / step)
    checkpointer.close()
    return folder


def flip(path: Path, chance: random.Random, _: list[Path]) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, chance: random.Random, _: list[Path]) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def delete(path: Path, chance: random.Random, _: list[Path]) -> None:
    path.unlink()


def zero_fill(path: Path, chance: random.Random, _: list[Path]) -> None:
    data = bytearray(path.read_bytes())
    start = chance.choice([index for index, byte in enumerate(data) if byte])
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    path.write_bytes(data)


def swap(path: Path, chance: random.Random, files: list[Path]) -> None:
    other = chance.choice([file for file in files if file.read_bytes() != path.read_bytes()])
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def add(path: Path, chance: random.Random, _: list[Path]) -> None:
    path.with_name(path.name + ".copy").write_bytes(b"")


def take_from_the_step_before(path: Path, chance: random.Random, _: list[Path]) -> None:
    older = [file for file in path_of_step(path).with_name("1").rglob(path.name) if file.read_bytes() != path.read_bytes()]
    path.write_bytes(older[0].read_bytes() if older else b"")


def path_of_step(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.name == "2")


HARMS = [flip, flip, truncate, delete, zero_fill, swap, add, take_from_the_step_before]


def test_200_of_200_corruptions_are_found_and_the_step_before_is_taken(saved: Path, tmp_path: Path, seed: int):
    chance = random.Random(seed)
    names = sorted(path.relative_to(saved) for path in (saved / "2").rglob("*") if path.is_file())
    cases = list(itertools.islice(itertools.cycle(itertools.product(names, HARMS)), 200))
    assert {name for name, _ in cases} == set(names)
    for number, (name, harm) in enumerate(cases):
        folder = shutil.copytree(saved, tmp_path / str(number))
        harm(folder / name, chance, sorted(path for path in (folder / "2").rglob("*") if path.is_file()))
        got, skipped = choose_step(folder, "latest" if number % 2 else "best")
        assert (got, len(skipped)) == (1, 1), (name, harm)
        assert "step 2 is damaged and was set aside as 2.corrupt" in skipped[0]
        assert (folder / "2.corrupt").is_dir()
        shutil.rmtree(folder)


def test_restore_falls_back_and_says_so(saved: Path, tmp_path: Path):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    (folder / "2.corrupt").mkdir()
    largest = max((folder / "2" / "state").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    flip(largest, random.Random(0), [])
    checkpointer = Checkpointer(folder, keep_last=2, keep_best=True)
    restored = checkpointer.restore(LIKE)
    assert (restored.step, int(restored.state["step"]), restored.record) == (1, 1, {"step": 1})
    assert largest.name in restored.skipped[0]
    assert "2.corrupt-2" in restored.skipped[0]
    checkpointer.save(2, STATE, {}, None)
    checkpointer.close()
    assert list_steps(folder) == (1, 2), "the run can commit the lost step again"


def test_step_under_another_steps_name_is_refused(saved: Path, tmp_path: Path):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    (folder / "2").rename(folder / "3")
    got, skipped = choose_step(folder, "latest")
    assert got == 1
    assert "holds step 2 under another step's name" in skipped[0]


def test_no_change_hides_in_the_white_space_of_the_manifest(saved: Path, tmp_path: Path):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    manifest = folder / "2" / "MANIFEST.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    got, skipped = choose_step(folder, "latest")
    assert got == 1
    assert "MANIFEST.json: altered since it was written" in skipped[0]


def test_no_good_step_left_is_an_error_that_lists_them(saved: Path, tmp_path: Path):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    for step in ("1", "2"):
        (folder / step / "record.json").unlink()
    with pytest.raises(CheckpointError, match=r"(?s)no checkpoint left.*step 2 is damaged.*step 1 is damaged"):
        choose_step(folder, "latest")


def test_damaged_step_asked_for_by_number_is_not_replaced_by_another(saved: Path, tmp_path: Path):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    (folder / "2" / "record.json").unlink()
    with pytest.raises(CheckpointError, match=r"2/record\.json: missing"):
        choose_step(folder, 2)
    assert list_steps(folder) == (1, 2)


def test_write_that_the_disk_refuses_leaves_earlier_steps_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    noise = {"params": {"w": jnp.asarray(np.random.default_rng(0).normal(size=200_000))}}
    checkpointer = Checkpointer(tmp_path, keep_last=3, keep_best=False)
    checkpointer.save(1, noise, {}, None)
    checkpointer.wait()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        checkpointer.save(2, noise, {}, None)
        with pytest.raises(CheckpointError, match=r"step 2 cannot be written .*File too large.* needs \d+ bytes, \d+ are free"):
            checkpointer.save(3, noise, {}, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1"]
    checkpointer.save(3, noise, {}, None)
    checkpointer.close()
    assert checkpointer.steps() == (1, 3), "the run goes on once there is room"
    assert caplog.records == [], "one sentence instead of orbax's tracebacks"
    np.testing.assert_array_equal(restore_params(tmp_path, 1)[0]["w"], noise["params"]["w"])


SAVE_FOREVER = """
import itertools, sys
from pathlib import Path
import jax.numpy as jnp
from jax_transformer.train.checkpoint import Checkpointer
checkpointer = Checkpointer(Path(sys.argv[1]), keep_last=2, keep_best=True)
for step in itertools.count(1):
    checkpointer.save(step, {"params": {"w": jnp.full((1000,), step)}, "step": jnp.int32(step)}, {"step": step}, 1.0 / step)
    for done in checkpointer.poll():
        print(done, flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def kill_during_save(folder: Path, delay: float) -> None:
    """One trial: nothing that was reported committed is lost, nothing half-written is left or believed."""
    process = start(SAVE_FOREVER, folder)
    first = process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    reported = [int(line) for line in [first, *process.communicate()[0].split()]]
    checkpointer = Checkpointer(folder, keep_last=2, keep_best=True)
    chosen, skipped = choose_step(folder, "latest")
    checkpointer.close()
    params, record = restore_params(folder, chosen)
    assert skipped == ()
    assert chosen >= reported[-1]
    assert record == {"step": chosen}
    np.testing.assert_array_equal(params["w"], np.full((1000,), chosen))
    assert list(folder.rglob("*tmp*")) == []


@pytest.mark.parametrize("trial", range(8))
def test_kill_9_during_a_save_loses_nothing_committed(tmp_path: Path, trial: int):
    kill_during_save(tmp_path / "checkpoints", random.Random(trial).uniform(0.0, 0.1))


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(8, 58))
def test_kill_9_during_a_save_50_more_times(tmp_path: Path, trial: int):
    kill_during_save(tmp_path / "checkpoints", random.Random(trial).uniform(0.0, 0.3))
