"""A cache of folders that are there whole or not at all."""

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jax_transformer.config.errors import DataError

MANIFEST = "manifest.json"


def cached_folder(cache: Path, key: str, build: Callable[[Path], None]) -> Path:
    """The folder ``cache/key``; if it is missing or damaged, ``build`` fills it first.

    A build happens in a temporary folder, which is flushed to disk, described by a manifest (size and SHA-256 of each file)
    and renamed into place, so a process that is killed leaves nothing that would be used. Processes that want the same folder
    wait for the one that builds it.

    Raises:
        DataError: the cache cannot be written or read; whatever ``build`` raises.
    """
    folder = cache / key
    try:
        if _is_intact(folder):
            return folder
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f"{key}.lock"):
            if not _is_intact(folder):
                _build(folder, build)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot write or read the token cache: {error.strerror or error}; free space or permission there, or "
            "choose another folder"
        ) from error
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    for stale in folder.parent.glob(f".{folder.name}.*"):  # left by a killed build: a live one would hold the lock
        shutil.rmtree(stale)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        build(temporary)
        files = {path.name: _describe(path) for path in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps(files, indent=2), encoding="utf-8")
        for path in (*temporary.iterdir(), temporary):
            _flush(path)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(temporary, folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_intact(folder: Path) -> bool:
    """Every file has the size and the checksum of the manifest, which is written last."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(files) and all(_describe(folder / name) == files[name] for name in files)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def _describe(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, which the kernel releases however the process ends."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
