"""One run per folder: exactly one of many proceeds, the others learn who, and a dead owner holds nothing."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jax_transformer.config.errors import RunLockedError
from jax_transformer.train.lock import LOCK, RunLock, read_owner

pytestmark = pytest.mark.fault

RACE = """
import os, sys
from pathlib import Path
from jax_transformer.config.errors import RunLockedError
from jax_transformer.train.lock import RunLock
for line in sys.stdin:
    try:
        with RunLock(Path(line.strip())):
            print("won", os.getpid(), flush=True)
            sys.stdin.readline()
    except RunLockedError as error:
        print("lost", error, flush=True)
        sys.stdin.readline()
    print("left", flush=True)
"""


def start() -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", RACE], env=environment, text=True, stdin=pipe, stdout=pipe)


def tell(process: subprocess.Popen[str], text: object) -> None:
    process.stdin.write(f"{text}\n")
    process.stdin.flush()


@pytest.fixture
def racers():
    processes = [start() for _ in range(2)]
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def test_of_two_processes_exactly_one_proceeds_in_20_races(racers: list[subprocess.Popen[str]], tmp_path: Path):
    for number in range(20):
        for racer in racers:
            tell(racer, tmp_path / str(number % 2))
        answers = {racer.pid: racer.stdout.readline() for racer in racers}
        winners = [pid for pid, answer in answers.items() if answer.startswith("won")]
        losers = [answer for answer in answers.values() if answer.startswith("lost")]
        assert (len(winners), len(losers)) == (1, 1), answers
        assert f"in use by process {winners[0]} on {socket.gethostname()}, started 20" in losers[0]
        for racer in racers:
            tell(racer, "leave")
            assert racer.stdout.readline() == "left\n"


def test_lock_of_a_killed_owner_is_taken_over(racers: list[subprocess.Popen[str]], tmp_path: Path):
    tell(racers[0], tmp_path)
    assert racers[0].stdout.readline() == f"won {racers[0].pid}\n"
    with pytest.raises(RunLockedError, match=f"process {racers[0].pid} "), RunLock(tmp_path):
        pass
    racers[0].send_signal(signal.SIGKILL)
    racers[0].wait()
    with RunLock(tmp_path):
        assert read_owner(tmp_path / LOCK).pid == os.getpid()
    assert read_owner(tmp_path / LOCK) is None


def test_second_lock_in_the_same_process_is_refused(tmp_path: Path):
    with RunLock(tmp_path), pytest.raises(RunLockedError, match=f"process {os.getpid()} "), RunLock(tmp_path):
        pass
    with RunLock(tmp_path):
        pass


def test_folder_that_cannot_hold_a_lock_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(RunLockedError, match=r"file/owner\.lock: cannot be created"), RunLock(tmp_path / "file"):
        pass
