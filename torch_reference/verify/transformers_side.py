"""What ``transformers`` answers for a folder of Hugging Face; imported only where it is asked for."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from jax_transformer.config import Dtype, DtypeName, EncoderDecoder
from jax_transformer.config.errors import WeightsError
from jax_transformer.convert import hf
from torch_reference.checkpoint import hub_shapes, to_array

_ARGUMENTS = {"tokens": "input_ids", "token_types": "token_type_ids"}
_ARGUMENTS_OF_TWO = {"source": "input_ids", "tokens": "decoder_input_ids"}


class Side:
    """The model of a folder as transformers opens it, computing in ``dtype`` but for what it rounds to float32 itself.

    Raises WeightsError for a folder of ours, and where transformers misses or does not know a tensor.
    """

    def __init__(self, folder: Path, dtype: DtypeName):
        if not hf.is_hf(folder):
            raise WeightsError(
                f"{folder}: transformers opens folders of Hugging Face only; write one with "
                "`jax-transformer convert FOLDER TARGET --format hf`, or choose jax or torch for this side"
            )
        config, self._tensors = hf.open_hf(folder, hub_shapes)
        self.config = config.model_copy(update={"dtype": Dtype(param=dtype, compute=dtype, logits=dtype)})
        transformers = import_module("transformers")
        cls = getattr(transformers, hf.family_of(folder).architecture)
        # No code of the checkpoint's, no pickle, no network.
        options = {"trust_remote_code": False, "use_safetensors": True, "local_files_only": True}
        model, report = cls.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation="eager", output_loading_info=True, **options
        )
        if wrong := sorted(map(str, report["missing_keys"])):
            raise WeightsError(f"{folder}: transformers misses tensors {wrong}, and would invent them")
        self._model = model.eval()

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """The folder's tensors under hub names: transformers has names of its own."""
        return self._tensors.tensors()

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The answer to ``inputs``, arguments of our model by name."""
        return to_array(self._model(**self._arguments(inputs)).logits)

    @torch.no_grad()
    def decode(self, inputs: Mapping[str, np.ndarray], read: int) -> np.ndarray:
        """The same through a cache: the first ``read`` tokens at once, then one by one."""
        arguments = self._arguments(inputs)
        name = "decoder_input_ids" if isinstance(self.config, EncoderDecoder) else "input_ids"
        sliced = {name, "token_type_ids"} & arguments.keys()
        logits, cache = [], None
        for start, stop in [(0, read), *((at, at + 1) for at in range(read, arguments[name].shape[1]))]:
            own = {key: value[:, start:stop] if key in sliced else value for key, value in arguments.items()}
            answer = self._model(**own, past_key_values=cache, use_cache=True)
            logits.append(to_array(answer.logits))
            cache = answer.past_key_values
        return np.concatenate(logits, axis=1)

    def _arguments(self, inputs: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        names = _ARGUMENTS_OF_TWO if isinstance(self.config, EncoderDecoder) else _ARGUMENTS
        return {names[name]: torch.from_numpy(value) for name, value in inputs.items()}
