"""The tensors of a GGUF file under the names, and in the layout, that Hugging Face gives them."""

import math
import re
from collections.abc import Iterator, Mapping

import numpy as np

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert import hub
from jax_transformer.convert.gguf.architectures import BLOCK_MODULES, FREQUENCIES, MODULES
from jax_transformer.convert.gguf.blocks import BLOCKS, TYPE_NAMES, Block
from jax_transformer.convert.gguf.file import GgufFile, StoredTensor
from jax_transformer.convert.safetensors_file import TensorInfo, read_bytes

_BLOCK = re.compile(r"blk\.(\d{1,5})\.(\w+)\.(weight|bias)")


class GgufWeights(hub.Weights):
    """The tensors of an open file; those in blocks of integers are multiplied out as they are read."""

    def __init__(self, file: GgufFile, heads: Mapping[str, int], dequantize: bool) -> None:
        """``heads``: modules whose rows are interleaved, and how many heads they have.

        Raises WeightsError where tensors are quantised and ``dequantize`` is off.
        """
        self._file, self._heads = file, heads
        self._stored = {_their_name(name): name for name in file.tensors if name != FREQUENCIES}
        if not dequantize:
            _refuse_quantized(file)

    def __getitem__(self, name: str) -> TensorInfo:
        tensor = self._file.tensors[self._stored[name]]
        return TensorInfo(tensor.shape, _block(tensor).dtype, tensor.offset)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def read(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """The tensor, or consecutive ``rows`` of it. Raises WeightsError where its file changed since it was opened."""
        stored = self._stored[name]
        module = stored.split(".")[-2]
        if module not in self._heads:
            return read_rows(self._file, stored, rows)
        return _halves(read_rows(self._file, stored), self._heads[module])[rows]


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
    return block.dequantize(raw.reshape(-1, block.num_bytes)).reshape(shape)


def _num_bytes(shape: tuple[int, ...], block: Block) -> int:
    return math.prod(shape) // block.elements * block.num_bytes


def _halves(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows 0 2 4 ... 1 3 5 ... of every head: the first half of its dimensions, then the second."""
    pairs = array.reshape(heads, -1, 2, *array.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(array.shape)


def _block(tensor: StoredTensor) -> Block:
    return BLOCKS[TYPE_NAMES[tensor.kind]]


def _their_name(name: str) -> str:
    """The name in Hugging Face's layout; one that no family has is kept, and then reported with the others."""
    if match := _BLOCK.fullmatch(name):
        module = BLOCK_MODULES.get(match[2])
        return f"model.layers.{int(match[1])}.{module}.{match[3]}" if module else name
    module, _, leaf = name.rpartition(".")
    return f"{MODULES[module]}.{leaf}" if module in MODULES else name


def _refuse_quantized(file: GgufFile) -> None:
    quantized = [name for name, tensor in file.tensors.items() if _block(tensor).dequantize is not None]
    if quantized:
        kinds = sorted({TYPE_NAMES[file.tensors[name].kind] for name in quantized})
        raise WeightsError(
            f"{file.path}: {len(quantized)} of {len(file.tensors)} tensors are quantised ({', '.join(kinds)}; the first: "
            f"{quantized[0]!r}); dequantize=True (--dequantize) multiplies them out to float32, which makes them no better"
        )
