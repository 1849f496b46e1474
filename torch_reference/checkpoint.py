"""Exchange folders, Hugging Face folders and GGUF files <-> PyTorch models. Twin of ``jax_transformer.convert.pretrained``.

Parameter names are hub names.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import torch
from torch import Tensor, nn

from jax_transformer import config as configs
from jax_transformer.config.errors import WeightsError
from jax_transformer.convert import gguf, hf, hub
from torch_reference.models import abstract_model
from torch_reference.models.decoder import Decoder
from torch_reference.models.encoder import Encoder
from torch_reference.models.encoder_decoder import EncoderDecoder


def save_pretrained(
    model: Decoder | Encoder | EncoderDecoder,
    path: str | Path,
    tokenizer: hub.TokenizerSource | None = None,
    max_shard_bytes: int = 5 * 10**9,
    overwrite: bool = False,
    format: Literal["exchange", "hf", "gguf"] = "exchange",
    family: str | None = None,
) -> None:
    """Writes ``model`` as a folder or, in the format ``gguf``, a file; the JAX model with these weights gives the same bytes.

    transformers opens the formats ``hf`` and ``gguf``: there the model becomes one of ``family``, or of the first family that
    expresses it exactly. Raises WeightsError where ``path`` exists and ``overwrite`` is off, or where the disk is too small;
    ConfigError where no family expresses the model.
    """
    state = model.state_dict()
    announced = {name: (tuple(tensor.shape), numpy_dtype(tensor)) for name, tensor in state.items()}
    hub.check_dtype({name: dtype for name, (_, dtype) in announced.items()}, model.config)
    options: dict[str, Any] = {"max_shard_bytes": max_shard_bytes, "overwrite": overwrite}
    if format == "exchange":
        hub.write_weights(path, announced, state_to_hub(state), hub.exchange_files(model.config, tokenizer), **options)
        return
    source = hf.HubSource(announced, lambda name: to_array(state[name]))
    if format == "gguf":
        gguf.write_gguf(path, model.config, source, hub.tokenizer_files(tokenizer), family, overwrite)
    else:
        chosen = hf.choose(model.config, family)
        hf.write_folder(path, model.config, chosen, source, hub.tokenizer_files(tokenizer), **options)


def load_pretrained(path: str | Path, dtype: str | None = None, check_finite: bool = True, dequantize: bool = False) -> Any:
    """The model of an exchange folder, a folder of Hugging Face or a GGUF file, its config as ``.config``.

    ``dtype`` casts the parameters, which otherwise keep the dtype they are stored in. A model of Hugging Face computes in the
    same. ``dequantize`` multiplies quantised tensors of a GGUF file out to float32. Raises WeightsError for weights that are
    damaged, do not fit the config, or are not finite; ConfigError for a config that is not valid.
    """
    config, weights = _open(Path(path), dtype, dequantize)
    if dtype is None:
        hub.check_dtype({name: info.dtype for name, info in weights.items()}, config)
    config = hub.with_param_dtype(config, dtype)
    model = abstract_model(config)
    hub.check_shapes(hub_shapes(config), weights)
    for name in weights:
        array = weights.read(name)
        if check_finite:
            hub.check_finite(name, array, weights.tensors())
        owner, _, leaf = name.rpartition(".")
        tensor = to_tensor(array if dtype is None else hub.cast(name, array, dtype))
        setattr(model.get_submodule(owner), leaf, nn.Parameter(tensor))
    return model


def _open(path: Path, dtype: str | None, dequantize: bool) -> tuple[configs.Model, hub.Weights]:
    """Config and hub tensors of a folder or file; one that is not ours computes in ``dtype`` where that is given."""
    if gguf.is_gguf(path):
        return gguf.open_gguf(path, hub_shapes, dtype, dequantize)
    if dequantize:
        raise WeightsError(f"{path}: no GGUF file; dequantize is for those")
    if hf.is_hf(path):
        return hf.open_hf(path, hub_shapes, dtype)
    return hub.read_config(path), hub.open_weights(path)


def hub_shapes(config: configs.Model) -> dict[str, tuple[int, ...]]:
    """Shape of every hub tensor of a config's model; makes no tensors."""
    return {name: tuple(tensor.shape) for name, tensor in abstract_model(config).state_dict().items()}


def state_to_hub(state: dict[str, Tensor]) -> Iterator[tuple[str, np.ndarray]]:
    """Streams a ``state_dict``, or any tensors by parameter name (gradients, moments), as hub arrays."""
    return ((name, to_array(tensor)) for name, tensor in state.items())


def to_tensor(array: np.ndarray) -> Tensor:
    """``array`` as a tensor that shares its memory, bit by bit; torch knows no numpy bfloat16."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_array(tensor: Tensor) -> np.ndarray:
    """``tensor`` as an array, bit by bit; the inverse of ``to_tensor``."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def numpy_dtype(tensor: Tensor) -> np.dtype:
    """The dtype that ``to_array`` gives ``tensor``."""
    return to_array(torch.empty(0, dtype=tensor.dtype)).dtype
