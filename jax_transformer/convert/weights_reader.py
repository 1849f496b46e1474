"""Opens a folder of weights, or one file of them, without trusting it."""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import numpy as np

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.safetensors_file import (
    Positions,
    TensorInfo,
    parse_json,
    positions,
    read_bytes,
    read_header,
    read_part,
)
from jax_transformer.convert.weights_writer import INDEX, SHA256, SINGLE, file_sha256

_SUM = re.compile(r"([0-9a-f]{64})  ([^/\0]+)")
_MAX_TEXT = 64 * 2**20
_MAX_SHARDS = 1024

T = TypeVar("T")


@dataclass(frozen=True)
class Layout:
    """What the files of a folder's weights are called."""

    single: str
    index: str
    suffix: str

    @property
    def shard(self) -> re.Pattern[str]:
        """Plain names of files with the suffix."""
        return re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,200}}{re.escape(self.suffix)}")

    def is_in(self, folder: Path) -> bool:
        """Whether a folder has such files, or links that should be."""
        return any((folder / name).exists() or (folder / name).is_symlink() for name in (self.single, self.index))


SAFETENSORS = Layout(SINGLE, INDEX, ".safetensors")


class Weights(Mapping[str, TensorInfo]):
    """Name to shape and dtype of every tensor; ``read`` fetches the values, and nothing else does."""

    duplicates: Mapping[str, list[str]] = MappingProxyType({})
    """Tensors that are in several files, with the names of those. They are not read: ``check_shapes`` refuses them."""

    @abstractmethod
    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """The tensor, or consecutive ``rows`` of its first axis."""

    def label(self, name: str) -> str:
        """What the file calls the tensor."""
        return name

    def read_part(self, name: str, part: Positions | None = None) -> np.ndarray:
        """A part of the tensor, None for all of it. Readers that know no better read the rows from its first to its last."""
        if part is None:
            return self.read(name)
        first = int(part[0][0])
        return self.read(name, slice(first, int(part[0][-1]) + 1))[np.ix_(part[0] - first, *part[1:])]

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor with its name, one at a time."""
        return ((name, self.read(name)) for name in self)


class FileWeights(Weights, Generic[T]):
    """Tensors in several files; ``T`` is what is known of each."""

    def __init__(self, files: Mapping[Path, Mapping[str, T]]) -> None:
        self._tensors: dict[str, tuple[Path, T]] = {}
        places: dict[str, list[str]] = {}
        for path, tensors in files.items():
            for name, item in tensors.items():
                self._tensors.setdefault(name, (path, item))
                places.setdefault(name, []).append(path.name)
        self.duplicates = {name: files for name, files in places.items() if len(files) > 1}

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def file_name(self, name: str) -> str:
        """Name of the file that holds the tensor."""
        return self._tensors[name][0].name

    def located(self, name: str) -> tuple[Path, T]:
        """The file of a tensor, and what is known of it. Raises WeightsError where there is none, or more than one."""
        if name not in self:
            raise WeightsError(f"tensor {name!r} is not in the weights, which have {len(self)}: {sorted(self)[:8]}")
        if name in self.duplicates:
            raise WeightsError(f"tensor {name!r} is in two shards: {' and '.join(self.duplicates[name])}; remove one of them")
        return self._tensors[name]


class WeightsReader(FileWeights[TensorInfo]):
    """The tensors of safetensors files."""

    def __getitem__(self, name: str) -> TensorInfo:
        return self._tensors[name][1]

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """The tensor, or consecutive ``rows`` of its first axis; reads their bytes only. Raises what ``read_part`` does."""
        return self.read_part(name, positions(self.located(name)[1].shape, rows) if rows != slice(None) else None)

    def read_part(self, name: str, part: Positions | None = None) -> np.ndarray:
        """A part of the tensor, None for all of it; reads its bytes only.

        Raises WeightsError where it does not exist, is there twice, or its file changed since it was opened.
        """
        path, info = self.located(name)
        array = read_part(path, info, positions(info.shape) if part is None else part)
        if info.dtype == np.bool_ and (array.view(np.uint8) > 1).any():
            raise WeightsError(f"{path}: BOOL tensor {name!r} has bytes other than 0 and 1")
        return array


def open_weights(path: str | Path, verify: bool = True) -> WeightsReader:
    """Opens a safetensors file, or the folder of one model, and reads names, shapes and dtypes only.

    ``verify`` compares every file with ``model.sha256`` where that exists, at about 1.5 GB/s.
    Raises WeightsError for anything missing, ambiguous, damaged, or pointing outside the folder.
    """
    path = Path(path)
    files, weight_map = find_files(path, SAFETENSORS) if path.is_dir() else ([path], {})
    reader = WeightsReader({file: read_header(file) for file in files})
    check_index(path / INDEX, weight_map, reader)
    if verify:
        _verify(files)
    return reader


def find_files(folder: Path, layout: Layout) -> tuple[list[Path], dict[str, str]]:
    """The files of a folder's weights and, where there are shards, tensor name to shard as the index has it."""
    weight_map = _read_index(folder, layout) if (folder / layout.index).exists() else {}
    return [_inside(folder, name) for name in sorted(set(weight_map.values())) or [_single(folder, layout)]], weight_map


def _single(folder: Path, layout: Layout) -> str:
    if layout.is_in(folder):
        return layout.single
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in folder.glob(pattern))
    hint = f"; {pickles} are pickles, which can run code when opened: convert them to safetensors where you trust them"
    raise WeightsError(f"{folder}: neither {layout.single} nor {layout.index} is there{hint if pickles else ''}")


def _read_index(folder: Path, layout: Layout) -> dict[str, str]:
    index = _inside(folder, layout.index)
    if (folder / layout.single).exists():
        raise WeightsError(f"{folder}: has both {layout.single} and {layout.index}; remove the one that is stale")
    weight_map = parse_json(index, _small_file(index)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{index}: weight_map is missing or empty")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not layout.shard.fullmatch(shard):
            raise WeightsError(f"{index}: {name!a} is in {shard!a}, wanted the plain name of a {layout.suffix} file")
    if len(set(weight_map.values())) > _MAX_SHARDS:
        raise WeightsError(f"{index}: names {len(set(weight_map.values()))} shards, wanted at most {_MAX_SHARDS}")
    return weight_map


def _small_file(path: Path) -> bytes:
    if not path.is_file() or path.stat().st_size > _MAX_TEXT:
        raise WeightsError(f"{path}: not a file of at most {_MAX_TEXT} bytes")
    return read_bytes(path, 0, path.stat().st_size).tobytes()


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_symlink() and path.resolve().parent not in (folder.resolve(), _blobs(folder)):
        raise WeightsError(f"{path}: a link to {path.resolve()}, outside the folder; copy the file here if you trust it")
    return path


def _blobs(folder: Path) -> Path | None:
    """Where the cache of the hub has the files that a folder ``models--*/snapshots/*`` links to; None for other folders."""
    snapshots = folder.resolve().parent
    cached = snapshots.name == "snapshots" and snapshots.parent.name.startswith("models--")
    return snapshots.parent / "blobs" if cached else None


def check_index(index: Path, weight_map: Mapping[str, str], reader: FileWeights[Any]) -> None:
    """Raises WeightsError that lists every tensor of which ``index`` says something else than its shards; none is no index."""
    if not weight_map:
        return
    shards = {name: reader.duplicates.get(name, [reader.file_name(name)]) for name in reader}
    problems = [f"in no shard: {name}" for name in weight_map if name not in shards]
    problems += [f"not in the index: {name}" for name in shards if name not in weight_map]
    problems += [
        f"in {shards[name][0]}, but the index says {shard}: {name}"
        for name, shard in weight_map.items()
        if name in shards and shard not in shards[name]
    ]
    if problems:
        problems += [f"in two shards, {' and '.join(files)}: {name}" for name, files in reader.duplicates.items()]
        raise WeightsError(f"{index} does not describe its shards:\n  " + "\n  ".join(problems))


def _verify(files: list[Path]) -> None:
    sums = _inside(files[0].parent, SHA256)
    if not sums.exists():
        return
    lines = _small_file(sums).decode(errors="replace").splitlines()
    matches = [_SUM.fullmatch(line) for line in lines]
    wanted = {match[2]: match[1] for match in matches if match}
    for file in files:
        if len(wanted) != len(lines) or file.name not in wanted:
            raise WeightsError(f"{sums}: not one line 'sha256  file' for every weights file; {file.name} cannot be checked")
        if file_sha256(file) != wanted[file.name]:
            raise WeightsError(
                f"{file}: its content does not match {SHA256}: it is damaged. Fetch or export it again; "
                f"if you changed it on purpose, delete {sums}"
            )
