"""A file or folder that is there whole or not at all: made beside its place, flushed to the disk, and renamed last."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from jax_transformer.config.errors import WeightsError

_REASONS = {
    errno.ENOSPC: "the disk is full: free some of it, or choose another place",
    errno.EDQUOT: "the quota is used up: free some of it, or choose another place",
    errno.EFBIG: "one file may not be so large here: choose a smaller max_shard_bytes, or raise the limit (ulimit -f)",
}


@contextmanager
def taking_place(target: Path, num_bytes: int, check: Callable[[], None]) -> Generator[Path]:
    """Yields ``<target>.tmp-<pid>``, at which a file or a folder is made, and gives it the name ``target`` in the end.

    ``check`` raises where ``target`` may not be replaced; it is called after the remains of killed processes are gone. Raises
    WeightsError where the disk has no ``num_bytes`` free, or cannot be written.
    """
    temporary = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    try:
        _sweep(target)
        check()
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < num_bytes:
            raise WeightsError(f"{target}: needs {num_bytes:,} bytes, the disk has {free:,} free")
        try:
            yield temporary
            for path in [*temporary.rglob("*"), temporary]:
                _flush(path)
            _take_place(temporary, target)
        finally:
            _remove(temporary)
    except OSError as error:
        reason = f" ({_REASONS[error.errno]})" if error.errno in _REASONS else ""
        raise WeightsError(f"{target}: cannot be written: {error.strerror or error}{reason}") from error


def _take_place(temporary: Path, target: Path) -> None:
    old = target.with_name(f"{target.name}.old-{os.getpid()}")
    if target.exists():
        os.rename(target, old)
    os.rename(temporary, target)
    _flush(target.parent)
    _remove(old)


def _sweep(target: Path) -> None:
    """Removes what killed processes left beside ``target``, and brings back what one had moved aside."""
    name = re.compile(re.escape(target.name) + r"\.(tmp|old)-(\d+)")
    for left in target.parent.iterdir() if target.parent.is_dir() else ():
        match = name.fullmatch(left.name)
        if match is None or _alive(int(match[2])):
            continue
        if match[1] == "old" and not target.exists():
            os.rename(left, target)
        else:
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
