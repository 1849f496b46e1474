"""The arrays of a committed step, to read from: all that are asked for, or each when it is used."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jax_transformer.config.errors import CheckpointError
from jax_transformer.convert.hub import numpy_dtype
from jax_transformer.train.committed import Which, pick_step, verify_step

STATE, RECORD = "state", "record.json"


@dataclass(frozen=True)
class OpenStep:
    """A verified step."""

    folder: Path
    names: list[str]
    """Flat names of the arrays that were asked for."""
    arrays: Mapping[str, dict[str, Any]]
    """Shape and dtype of every array, by its flat name."""
    record: dict[str, Any]

    def load(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Some of the arrays; reads no other."""
        # This process alone: in a run of several, orbax would wait for the others to read along.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="alone"
        )
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
            return load_arrays(reader, self.folder, {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names})


def open_step(folder: Path, step: Which, prefix: str) -> OpenStep:
    """A verified step and those of its arrays whose flat names begin with ``prefix``.

    ``folder`` may belong to a running training, so nothing in it is renamed: damage is raised as CheckpointError, as is a
    folder without a step.
    """
    path = folder.absolute() / str(pick_step(folder, step))
    verify_step(path)
    saved = read_record(path)
    names = [name for name in saved["arrays"] if name.startswith(prefix)]
    if not names:
        raise CheckpointError(f"{path}: holds no such arrays (none is named {prefix}...)")
    return OpenStep(path, names, saved["arrays"], saved["record"])


def load_arrays(reader: ocp.Checkpointer, folder: Path, targets: Mapping[str, ocp.RestoreArgs]) -> dict[str, Any]:
    """The arrays of a step that ``targets`` names."""
    item = dict.fromkeys(targets, 0)
    restore = ocp.args.PyTreeRestore(item=item, restore_args=targets, partial_restore=True)
    try:
        return reader.restore(folder / STATE, args=restore)
    except (ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{folder}: verified, but orbax cannot read it: {error}") from error


def read_record(folder: Path) -> dict[str, Any]:
    """What a step holds beside its arrays."""
    return json.loads((folder / RECORD).read_text(encoding="utf-8"))


class StoredArray:
    """An array of a checkpoint: ``numpy.asarray`` restores it, and so does an index of its first dimension."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], restore: Callable[[], np.ndarray]) -> None:
        self.shape, self.dtype, self._restore = shape, dtype, restore

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._restore(), dtype=dtype, copy=copy)

    def __getitem__(self, index: int) -> np.ndarray:
        # A copy: a view would keep the whole array in memory while the next one is restored.
        return self._restore()[index].copy()


def open_params(folder: Path, step: Which = "latest") -> dict[str, StoredArray]:
    """The parameters of a verified step, by path; those that were used last are kept, as far as the largest one takes.

    orbax needs twice the size of what it restores, so the peak is twice the largest array. Raises what ``open_step`` does.
    """
    opened = open_step(folder, step, "params/")
    specs = {name: (tuple(opened.arrays[name]["shape"]), numpy_dtype(opened.arrays[name]["dtype"])) for name in opened.names}
    num_bytes = {name: int(np.prod(shape)) * dtype.itemsize for name, (shape, dtype) in specs.items()}
    room = max(num_bytes.values())
    kept: dict[str, np.ndarray] = {}

    def restore(name: str) -> np.ndarray:
        if name not in kept:
            while kept and sum(num_bytes[one] for one in kept) + num_bytes[name] > room:
                del kept[next(iter(kept))]
            kept[name] = opened.load([name])[name]
        kept[name] = kept.pop(name)  # now the last to go
        return kept[name]

    def stored(name: str) -> StoredArray:
        return StoredArray(*specs[name], lambda: restore(name))

    return {name.removeprefix("params/"): stored(name) for name in opened.names}
