"""The first signal asks, the second leaves at once, and what was installed is taken away again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jax_transformer.train.signals import SIGNALS, StopFlag

pytestmark = pytest.mark.fault


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_first_signal_sets_the_flag_and_the_exit_code(signum: signal.Signals, code: int, capfd: pytest.CaptureFixture[str]):
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopFlag() as flag:
        assert (flag.requested, flag.exit_code, flag.agreed(1)) == (False, 0, False)
        os.kill(os.getpid(), signum)
        wait_until(lambda: flag.requested)
        assert (flag.exit_code, flag.agreed(1)) == (code, True)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert f"{signum.name}: saving, then stopping" in capfd.readouterr().err


def test_flag_restores_the_wakeup_descriptor_and_leaves_no_thread():
    with StopFlag():
        assert "signals" in [thread.name for thread in threading.enumerate()]
    assert "signals" not in [thread.name for thread in threading.enumerate()]
    assert signal.set_wakeup_fd(-1) == -1


def test_other_signals_are_left_to_their_own_handlers():
    seen = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    with StopFlag() as flag:
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_until(lambda: bool(seen))
    signal.signal(signal.SIGUSR1, previous)
    assert not flag.requested


def test_outside_the_main_thread_the_flag_works_without_signals():
    codes = []

    def run() -> None:
        with StopFlag() as flag:
            flag.request(signal.SIGINT)
            codes.append(flag.exit_code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert codes == [130]


STUBBORN = """
import hashlib, time
from jax_transformer.train.signals import StopFlag
with StopFlag() as flag:
    flag.request()  # another process's request, as `agreed` makes it: the first signal is still the first
    print("ready", flush=True)
    {busy}
"""
IN_PYTHON = "while True: time.sleep(0.01)"
# Minutes in C with the interpreter lock given away, as in a compilation: Python runs no signal handler meanwhile.
IN_C = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"


@pytest.mark.parametrize("busy", [IN_PYTHON, IN_C])
def test_second_signal_leaves_at_once(busy: str):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", STUBBORN.format(busy=busy)]
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM: saving, then stopping" in process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped at once" in error
