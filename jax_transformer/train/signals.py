"""Stopping on request: the first SIGTERM or Ctrl-C asks the loops to save and leave, the second leaves at once.

A run that was stopped exits with 128 + the signal's number (143 after SIGTERM, 130 after Ctrl-C), saved or not: it is
not complete, and a script must not go on as if it were.
"""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import jax

from jax_transformer.train.processes import any_process

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SHOW_CURSOR = b"\x1b[?25h"
_CLOSE = 0
"""The byte that ends the watcher; no signal has this number."""


class StopFlag:
    """From ``with`` to its end, turns SIGTERM and SIGINT into a flag that the loops poll.

    Signals reach a thread through Python's wakeup descriptor, so that a second one works even while the main thread is
    inside a compilation that lasts minutes. It does not depend on ``jax.distributed``; enter it after
    ``jax.distributed.initialize``, which installs a SIGTERM handler of its own. Outside the main thread Python
    allows no handlers: the flag is then only set by ``request``.
    """

    def __init__(self) -> None:
        self._signum = 0
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_wakeup = -1
        self._read = self._write = -1
        self._watcher: threading.Thread | None = None

    @property
    def requested(self) -> bool:
        """True once a signal has come, in this process."""
        return self._signum != 0

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, or 0 when none came."""
        return 128 + self._signum if self._signum else 0

    def request(self, signum: int = signal.SIGTERM) -> None:
        """Sets the flag as ``signum`` would; asking twice is no different from asking once."""
        self._signum = self._signum or signum

    def agreed(self, step: int, every: int = 8) -> bool:
        """``requested`` on any process, with the same answer on all, so that all save the same step.

        One process answers from its own flag. Several exchange flags when ``step`` is a multiple of ``every``,
        because the exchange waits for the step to finish; all must call it with the same steps.
        """
        if step % every and jax.process_count() > 1:
            return False
        stop = any_process(self.requested)
        if stop:
            self.request()
        return stop

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._watcher = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._watcher.start()
        self._previous_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._previous = {signum: signal.signal(signum, _wake) for signum in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._watcher is None:
            return
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.write(self._write, bytes([_CLOSE]))
        self._watcher.join()
        self._watcher = None
        os.close(self._read)
        os.close(self._write)

    def _watch(self) -> None:
        first = True
        while (number := os.read(self._read, 1)[0]) != _CLOSE:
            if number not in SIGNALS:
                continue
            # Not `self.requested`: another process's request must not turn this one's first signal into its second.
            if not first:
                _exit_now(number)
            first = False
            self.request(number)
            _say(f"{signal.Signals(number).name}: saving, then stopping; once more to stop at once\n".encode())


def _wake(signum: int, frame: FrameType | None) -> None:
    """Python writes to the wakeup descriptor only for signals that have a Python handler; the watcher does the rest."""


def _exit_now(signum: int) -> None:
    """Leaves without unwinding: a save that is going on stays uncommitted, everything committed stays whole."""
    _say(_SHOW_CURSOR + b"stopped at once; resume continues from the last committed checkpoint\n")
    os._exit(128 + signum)


def _say(message: bytes) -> None:
    """Past sys.stderr, whose lock the interrupted main thread may hold; a progress bar may have hidden the cursor."""
    if not os.isatty(2):
        message = message.removeprefix(_SHOW_CURSOR)
    with contextlib.suppress(OSError):
        os.write(2, message)
