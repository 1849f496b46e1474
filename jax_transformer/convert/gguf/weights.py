"""The tensors of a GGUF file under the names, and in the layout, that Hugging Face gives them."""

import math
from collections.abc import Iterator

import numpy as np

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert import hub
from jax_transformer.convert.gguf.blocks import BLOCKS, TYPE_NAMES, Block
from jax_transformer.convert.gguf.file import GgufFile, StoredTensor
from jax_transformer.convert.gguf.names import FREQUENCIES, Layout
from jax_transformer.convert.safetensors_file import TensorInfo, read_bytes

_CHUNK = 2**14
"""Blocks that are multiplied out at a time: each takes some kilobytes on the way."""
_MAX_NAMES = 2**18
"""Tensors of Hugging Face that a file may stand for: each expert of each layer is three."""
_FLOAT32 = np.dtype(np.float32)


class GgufWeights(hub.Weights):
    """The tensors of an open file.

    Where some are blocks of integers, all are float32. Norms, biases and routers, which files of 16 bits have in float32, get
    the dtype of the matrices where they lose no bit.
    """

    def __init__(self, file: GgufFile, layout: Layout, dequantize: bool) -> None:
        """Raises WeightsError where tensors are quantised and ``dequantize`` is off."""
        self._file, self._layout = file, layout
        self._stored: dict[str, tuple[str, int | None]] = {}
        for name, tensor in file.tensors.items():
            theirs = layout.theirs(name, tensor.shape[0]) if name != FREQUENCIES else []
            experts = theirs != [name] and "_exps." in name
            if len(self._stored) + len(theirs) > _MAX_NAMES:
                raise WeightsError(f"{file.path}: stands for more than {_MAX_NAMES} tensors, one for each expert; wanted fewer")
            self._stored |= {their: (name, number if experts else None) for number, their in enumerate(theirs)}
        quantized = [name for name, tensor in file.tensors.items() if _block(tensor).dequantize is not None]
        if quantized and not dequantize:
            raise _refusal(file, quantized)
        self._wide = bool(quantized)
        self._narrow = self._narrowed()

    def __getitem__(self, name: str) -> TensorInfo:
        stored, expert = self._stored[name]
        tensor = self._file.tensors[stored]
        return TensorInfo(tensor.shape if expert is None else tensor.shape[1:], self._dtype(stored), tensor.offset)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def label(self, name: str) -> str:
        """What the file calls the tensor."""
        return self._stored[name][0]

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """The tensor, or consecutive ``rows`` of it. Raises WeightsError where its file changed since it was opened."""
        stored, expert = self._stored[name]
        if expert is not None:
            array = read_rows(self._file, stored, slice(expert, expert + 1))[0][rows]
        elif self._layout.moves(stored):
            array = self._moved(stored)[rows]
        else:
            array = read_rows(self._file, stored, rows)
        return array.astype(self._dtype(stored), copy=False)

    def _moved(self, stored: str) -> np.ndarray:
        try:
            return self._layout.to_theirs(stored, read_rows(self._file, stored))
        except ValueError as error:
            raise WeightsError(f"{self._file.path}: tensor {stored!r} {error}") from error

    def _dtype(self, stored: str) -> np.dtype:
        if self._wide or self._layout.shifts(stored):
            return self._narrow.get(stored, _FLOAT32)
        return self._narrow.get(stored, _block(self._file.tensors[stored]).dtype)

    def _narrowed(self) -> dict[str, np.dtype]:
        """Tensors to the dtype of the matrices, where that has 16 bits and holds them exactly: norms, biases and routers."""
        tensors = {name: self._file.tensors[name] for name, _ in self._stored.values()}
        small = {name for name, tensor in tensors.items() if self._layout.is_wide(name, len(tensor.shape))}
        matrices = {_block(tensor).dtype for name, tensor in tensors.items() if name not in small}
        if self._wide or len(matrices) != 1 or next(iter(matrices)).itemsize != 2:
            return {}
        dtype = next(iter(matrices))
        return {name: dtype for name in small if _fits(self._moved(name), dtype)}


def read_rows(file: GgufFile, name: str, rows: slice = slice(None)) -> np.ndarray:
    """Consecutive ``rows`` of a tensor, in the file's own order; reads no other."""
    tensor = file.tensors[name]
    block = _block(tensor)
    shape, offset = tensor.shape, tensor.offset
    if rows != slice(None):
        start, stop, _ = rows.indices(shape[0])
        offset += start * _num_bytes(shape[1:] or (1,), block)
        shape = (max(stop - start, 0), *shape[1:])
    raw = read_bytes(file.path, offset, _num_bytes(shape, block))
    if block.dequantize is None:
        return raw.view(block.dtype).reshape(shape)
    packed = raw.reshape(-1, block.num_bytes)
    result = np.empty((len(packed), block.elements), np.float32)
    for start in range(0, len(packed), _CHUNK):
        result[start : start + _CHUNK] = block.dequantize(packed[start : start + _CHUNK])
    return result.reshape(shape)


def _num_bytes(shape: tuple[int, ...], block: Block) -> int:
    return math.prod(shape) // block.elements * block.num_bytes


def _block(tensor: StoredTensor) -> Block:
    return BLOCKS[TYPE_NAMES[tensor.kind]]


def _fits(array: np.ndarray, dtype: np.dtype) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array_equal(array.astype(dtype).astype(array.dtype), array, equal_nan=True)


def _refusal(file: GgufFile, quantized: list[str]) -> WeightsError:
    kinds = sorted({TYPE_NAMES[file.tensors[name].kind] for name in quantized})
    return WeightsError(
        f"{file.path}: {len(quantized)} of {len(file.tensors)} tensors are quantised ({', '.join(kinds)}; the first: "
        f"{quantized[0]!r}); dequantize=True (--dequantize) multiplies them out to float32, which makes them no better"
    )
