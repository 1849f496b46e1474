"""MANIFEST.json: size and SHA-256 of every file of a checkpoint step.

orbax restores a flipped bit without a word, so nothing is trusted that its manifest does not confirm. The manifest is
written last, atomically and after every file has reached the disk: a step that has one is complete.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax_transformer.config.errors import CheckpointError

MANIFEST = "MANIFEST.json"
FORMAT = 1
"""Version of the checkpoint layout; raised by every change that older code cannot read."""
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class DamagedError(CheckpointError):
    """A step whose bytes are not the ones that were committed: another step has to serve."""


@dataclass(frozen=True)
class Manifest:
    """What a committed step consists of: ``files`` maps a relative path to (bytes, SHA-256)."""

    format: int
    versions: dict[str, str]
    extra: dict[str, Any]
    files: dict[str, tuple[int, str]]


def write_manifest(folder: Path, extra: dict[str, Any]) -> Manifest:
    """Commits ``folder``: syncs and hashes every file below it, then writes MANIFEST.json by rename.

    ``extra`` is JSON that belongs to the step as a whole. Raises OSError when the disk refuses.
    """
    files = {name: _entry(folder / name, sync=True) for name in _list_files(folder)}
    manifest = Manifest(FORMAT, _versions(), extra, files)
    temporary = folder / f"{MANIFEST}.tmp"
    with temporary.open("wb") as file:
        file.write(_render(manifest))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / MANIFEST)
    for parent, _, _ in os.walk(folder):
        sync_folder(Path(parent))
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a step, itself checked but not yet compared with the files.

    Raises DamagedError when it is missing or altered, CheckpointError when a newer version wrote it.
    """
    path = folder / MANIFEST
    with _reading(path):
        raw = path.read_bytes()
    try:
        content = json.loads(raw)
        body = content["body"]
        if content["sha256"] != _digest(body) or raw != _dump(content):
            raise ValueError("its own checksum does not match")
        if body["format"] > FORMAT:
            raise CheckpointError(
                f"{path}: format {body['format']}, but this version reads up to {FORMAT}: upgrade jax-transformer "
                f"(the step was written with {body['versions']})"
            )
        files = {name: (size, digest) for name, (size, digest) in body["files"].items()}
        return Manifest(body["format"], body["versions"], body["extra"], files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: altered since it was written ({error})") from None


def verify_manifest(folder: Path) -> Manifest:
    """Compares every file below ``folder`` with its manifest, byte for byte.

    Raises DamagedError naming the first file that is missing, unknown or different, with what was got and wanted.
    """
    manifest = read_manifest(folder)
    found = set(_list_files(folder)) - {MANIFEST}
    for name in sorted(found | manifest.files.keys()):
        path = folder / name
        if name not in found:
            raise DamagedError(f"{path}: missing; the manifest lists it with {manifest.files[name][0]} bytes")
        if name not in manifest.files:
            raise DamagedError(f"{path}: not in the manifest, so it was not part of the step when it was committed")
        with _reading(path):
            got = _entry(path, sync=False, size=manifest.files[name][0])
        _compare(path, got, manifest.files[name])
    return manifest


def sync_folder(folder: Path) -> None:
    """Makes the names inside ``folder`` (files created, renamed) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tells a file that the user may not read from one that the disk cannot give back."""
    try:
        yield
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror})") from None


def _compare(path: Path, got: tuple[int, str], wanted: tuple[int, str]) -> None:
    if got[0] != wanted[0]:
        raise DamagedError(f"{path}: {got[0]} bytes, the manifest says {wanted[0]}")
    if got[1] != wanted[1]:
        raise DamagedError(f"{path}: SHA-256 {got[1][:16]}..., the manifest says {wanted[1][:16]}...")


def _entry(path: Path, *, sync: bool, size: int | None = None) -> tuple[int, str]:
    """(bytes, SHA-256) of a file; the hash is left out where the size already differs from ``size``."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        length = os.fstat(file.fileno()).st_size
        if size is not None and size != length:
            return length, ""
        return length, hashlib.file_digest(file, "sha256").hexdigest()


def _list_files(folder: Path) -> list[str]:
    found = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _versions() -> dict[str, str]:
    installed = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), **installed}


def _render(manifest: Manifest) -> bytes:
    body = {"format": manifest.format, "versions": manifest.versions, "extra": manifest.extra, "files": manifest.files}
    return _dump({"sha256": _digest(body), "body": body})


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(_dump(body)).hexdigest()


def _dump(content: dict[str, Any]) -> bytes:
    """The one spelling of ``content``: a reader compares bytes, so no change can hide in white space."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"
