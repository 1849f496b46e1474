"""Writes a folder of weights so that it is there whole or not at all."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.atomic import taking_place
from jax_transformer.convert.safetensors_file import TensorInfo, format_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHA256 = "model.sha256"

Specs = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Tensor name to shape and dtype."""

_REPLACEABLE = re.compile(
    r"[^/]*\.(safetensors|json|jinja|sha256)|(merges|vocab|dict)\.txt|bpe\.codes|(source|target)\.spm|README\.md|"
    r"tokenizer\.model(\.v\d+)?|(spiece|tiktoken|sentencepiece\.bpe)\.model|additional_chat_templates/[^/]*\.jinja"
)
"""What an export may replace, by its path in the folder: what exports and checkpoints hold, and nothing else."""
_TEMPLATES = "additional_chat_templates"
"""The one folder of a checkpoint."""


def write_weights(
    folder: str | Path,
    specs: Specs,
    tensors: Iterable[tuple[str, np.ndarray]],
    files: Mapping[str, bytes] | None = None,
    max_shard_bytes: int = 5 * 10**9,
    overwrite: bool = False,
) -> None:
    """Writes ``tensors``, one at a time and in any order, and the small ``files`` beside them, as ``folder``.

    Equal tensors give equal bytes. Everything goes to ``<folder>.tmp-<pid>`` first, is flushed to the disk, and takes the
    name ``folder`` last: a killed export leaves nothing that looks finished. ``overwrite`` replaces a folder of weights.
    Raises WeightsError where the folder exists, the disk is too small, or ``tensors`` are not exactly ``specs``.
    """
    small = files or {}
    total = sum(math.prod(shape) * dtype.itemsize for shape, dtype in specs.values())
    folder = Path(folder).resolve()
    needed = total + sum(map(len, small.values()))
    with taking_place(folder, needed, lambda: _check_target(folder, overwrite)) as temporary:
        temporary.mkdir()
        shards = _plan_shards(specs, max_shard_bytes)
        weight_map = {name: file for file, part in shards.items() for name in part}
        headers, places = {}, {}
        for file, part in shards.items():
            headers[file], positions = format_header(part)
            places |= positions
            (temporary / file).touch()
        _write_tensors(temporary, specs, tensors, places, weight_map)
        # The header comes last: until then the file begins with zeros and no reader accepts it.
        for file, header in headers.items():
            with (temporary / file).open("r+b") as stream:
                stream.write(header)
        if len(shards) > 1:
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
            (temporary / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        sums = [f"{file_sha256(file)}  {file.name}\n" for file in sorted(temporary.iterdir())]
        (temporary / SHA256).write_text("".join(sums))
        for name, content in small.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_bytes(content)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _plan_shards(specs: Specs, max_shard_bytes: int) -> dict[str, dict[str, tuple[tuple[int, ...], np.dtype[Any]]]]:
    shards: list[dict[str, tuple[tuple[int, ...], np.dtype[Any]]]] = [{}]
    used = 0
    for name, (shape, dtype) in sorted(specs.items()):
        size = math.prod(shape) * dtype.itemsize
        if shards[-1] and used + size > max_shard_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = (shape, dtype)
        used += size
    if len(shards) == 1:
        return {SINGLE: shards[0]}
    return {f"model-{number:05}-of-{len(shards):05}.safetensors": shard for number, shard in enumerate(shards, 1)}


def _write_tensors(
    folder: Path,
    specs: Specs,
    tensors: Iterable[tuple[str, np.ndarray]],
    places: Mapping[str, TensorInfo],
    weight_map: Mapping[str, str],
) -> None:
    left = set(specs)
    for name, array in tensors:
        if name not in left:
            raise WeightsError(f"tensor {name!r} was given {'twice' if name in specs else 'but not announced'}")
        left.remove(name)
        if (array.shape, array.dtype) != specs[name]:
            raise WeightsError(f"tensor {name!r}: got {array.dtype}{list(array.shape)}, announced as {specs[name]}")
        with (folder / weight_map[name]).open("r+b") as stream:
            stream.seek(places[name].offset)
            stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        del array  # before the next one is made
    if left:
        raise WeightsError(f"tensors were announced but not given: {sorted(left)}")


def _check_target(folder: Path, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not overwrite:
        raise WeightsError(f"{folder}: exists already; choose another place or pass overwrite=True")
    if not folder.is_dir():
        raise WeightsError(f"{folder}: is a file; a folder cannot replace it")
    items = [item for item in (*folder.iterdir(), *(folder / _TEMPLATES).glob("*")) if item != folder / _TEMPLATES]
    names = {item.relative_to(folder).as_posix(): item for item in items}
    foreign = [name for name, item in names.items() if item.is_dir() or not _REPLACEABLE.fullmatch(name)]
    if foreign:
        raise WeightsError(f"{folder}: will not be replaced, it holds more than weights: {sorted(foreign)[:8]}")
