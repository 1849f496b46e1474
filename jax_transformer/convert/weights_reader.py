"""Opens a folder of weights, or one file of them, without trusting it."""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

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

_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors")
_SUM = re.compile(r"([0-9a-f]{64})  ([^/\0]+)")
_MAX_TEXT = 64 * 2**20
_MAX_SHARDS = 1024


class Weights(Mapping[str, TensorInfo]):
    """Name to shape and dtype of every tensor; ``read`` fetches the values, and nothing else does."""

    @abstractmethod
    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """The tensor, or consecutive ``rows`` of its first axis."""

    def read_part(self, name: str, part: Positions | None = None) -> np.ndarray:
        """A part of the tensor, None for all of it. Readers that know no better read the rows from its first to its last."""
        if part is None:
            return self.read(name)
        first = int(part[0][0])
        return self.read(name, slice(first, int(part[0][-1]) + 1))[np.ix_(part[0] - first, *part[1:])]

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor with its name, one at a time."""
        return ((name, self.read(name)) for name in self)


class WeightsReader(Weights):
    """The tensors of safetensors files."""

    def __init__(self, files: Mapping[Path, Mapping[str, TensorInfo]]) -> None:
        self._tensors: dict[str, tuple[Path, TensorInfo]] = {}
        for path, tensors in files.items():
            for name, info in tensors.items():
                if name in self._tensors:
                    raise WeightsError(f"tensor {name!r} is in two shards: {self._tensors[name][0]} and {path.name}")
                self._tensors[name] = (path, info)

    def __getitem__(self, name: str) -> TensorInfo:
        return self._tensors[name][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def file_name(self, name: str) -> str:
        """Name of the file that holds the tensor."""
        return self._tensors[name][0].name

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """The tensor, or consecutive ``rows`` of its first axis; reads their bytes only. Raises what ``read_part`` does."""
        return self.read_part(name, positions(self._tensors[name][1].shape, rows) if rows != slice(None) else None)

    def read_part(self, name: str, part: Positions | None = None) -> np.ndarray:
        """A part of the tensor, None for all of it; reads its bytes only.

        Raises WeightsError where it does not exist or its file changed since it was opened.
        """
        if name not in self:
            raise WeightsError(f"tensor {name!r} is not in the weights, which have {len(self)}: {sorted(self)[:8]}")
        path, info = self._tensors[name]
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
    weight_map: dict[str, str] = {}
    files = [path]
    if path.is_dir():
        weight_map = _read_index(path) if (path / INDEX).exists() else {}
        files = [_inside(path, name) for name in sorted(set(weight_map.values())) or [_single(path)]]
    reader = WeightsReader({file: read_header(file) for file in files})
    if weight_map:
        _check_index(path, weight_map, reader)
    if verify:
        _verify(files)
    return reader


def _single(folder: Path) -> str:
    if (folder / SINGLE).exists() or (folder / SINGLE).is_symlink():
        return SINGLE
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in folder.glob(pattern))
    hint = f"; {pickles} are pickles, which can run code when opened: convert them to safetensors where you trust them"
    raise WeightsError(f"{folder}: neither {SINGLE} nor {INDEX} is there{hint if pickles else ''}")


def _read_index(folder: Path) -> dict[str, str]:
    index = _inside(folder, INDEX)
    if (folder / SINGLE).exists():
        raise WeightsError(f"{folder}: has both {SINGLE} and {INDEX}; remove the one that is stale")
    weight_map = parse_json(index, _small_file(index)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{index}: weight_map is missing or empty")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            raise WeightsError(f"{index}: {name!a} is in {shard!a}, wanted the plain name of a .safetensors file")
    if len(set(weight_map.values())) > _MAX_SHARDS:
        raise WeightsError(f"{index}: names {len(set(weight_map.values()))} shards, wanted at most {_MAX_SHARDS}")
    return weight_map


def _small_file(path: Path) -> bytes:
    if not path.is_file() or path.stat().st_size > _MAX_TEXT:
        raise WeightsError(f"{path}: not a file of at most {_MAX_TEXT} bytes")
    return read_bytes(path, 0, path.stat().st_size).tobytes()


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_symlink() and path.resolve().parent != folder.resolve():
        raise WeightsError(f"{path}: a link to {path.resolve()}, outside the folder; copy the file here if you trust it")
    return path


def _check_index(folder: Path, weight_map: Mapping[str, str], reader: WeightsReader) -> None:
    missing = sorted(name for name in weight_map if name not in reader)
    unlisted = sorted(name for name in reader if name not in weight_map)
    moved = sorted(name for name in reader if name in weight_map and weight_map[name] != reader.file_name(name))
    if missing or unlisted or moved:
        raise WeightsError(
            f"{folder / INDEX} does not describe its shards: in no shard {missing[:20]}, not in the index {unlisted[:20]}, "
            f"in another shard than it says {moved[:20]}"
        )


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
