"""One run per folder: a kernel lock that a dead process cannot hold, and a file that names its owner."""

import fcntl
import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from jax_transformer.config.errors import RunLockedError

LOCK = "owner.lock"
_PATIENCE = 1.0
"""Seconds a loser waits for a winner that holds the lock to write its name."""


@dataclass(frozen=True)
class Owner:
    """The process that uses a run folder; ``started`` is UTC, ISO 8601."""

    pid: int
    host: str
    started: str
    command: str


class RunLock:
    """Holds ``<folder>/owner.lock`` from ``with`` to its end; of several processes take it on process 0 alone.

    The kernel drops the lock when its owner dies in whatever way, so there is nothing stale to clean up: the next process
    takes over. Entering raises RunLockedError naming the owner when another process, or another RunLock, holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunLockedError(f"{self._path}: cannot be created ({error.strerror}); use a writable folder") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(descriptor, json.dumps(asdict(_this_process())))
        except BlockingIOError:
            os.close(descriptor)
            raise RunLockedError(_refusal(self._path)) from None
        except OSError as error:
            os.close(descriptor)
            raise RunLockedError(f"{self._path}: cannot be locked ({error.strerror}); use another file system") from error
        self._descriptor = descriptor
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # The file stays: removing it would let a third process lock a new file while a second still waits on the old.
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def read_owner(path: Path) -> Owner | None:
    """The owner named in a lock file, or None while none is."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _this_process() -> Owner:
    return Owner(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"), " ".join(sys.argv))


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
    os.fsync(descriptor)


def _refusal(path: Path) -> str:
    owner, deadline = read_owner(path), time.monotonic() + _PATIENCE
    while not _may_be_alive(owner) and time.monotonic() < deadline:
        time.sleep(0.02)
        owner = read_owner(path)
    who = (
        "another process"
        if owner is None
        else (f"process {owner.pid} on {owner.host}, started {owner.started}: {owner.command}")
    )
    return f"{path.parent} is in use by {who}. Wait for it, stop it, or use another folder."


def _may_be_alive(owner: Owner | None) -> bool:
    """False only for nobody, and for a process of this host that has ended: its name is about to be overwritten."""
    if owner is None or owner.host != socket.gethostname():
        return owner is not None
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
