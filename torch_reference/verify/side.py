"""What PyTorch answers for a folder: its tensors as stored, logits, logits through a cache."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from jax_transformer.config import Dtype, DtypeName, EncoderDecoder
from torch_reference.checkpoint import load_pretrained, state_to_hub, to_array
from torch_reference.models import abstract_model


class Side:
    """The model of a folder, ours or Hugging Face's, that computes in ``dtype`` throughout."""

    def __init__(self, folder: Path, dtype: DtypeName):
        stored = load_pretrained(folder)
        self._stored = stored.state_dict()
        self.config = stored.config.model_copy(update={"dtype": Dtype(param=dtype, compute=dtype, logits=dtype)})
        self._model = abstract_model(self.config)
        cast = {name: value.to(getattr(torch, dtype)) for name, value in self._stored.items()}
        self._model.load_state_dict(cast, assign=True)

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """The hub tensors that the framework holds, in the dtype that they are stored in."""
        return state_to_hub(self._stored)

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The answer to ``inputs``, arguments of the model by name."""
        return to_array(self._model(**{name: torch.from_numpy(value) for name, value in inputs.items()})[0])

    @torch.no_grad()
    def decode(self, inputs: Mapping[str, np.ndarray], read: int) -> np.ndarray:
        """The same through a cache: the first ``read`` tokens at once, then one by one."""
        rest = {name: torch.from_numpy(value) for name, value in inputs.items()}
        tokens = rest.pop("tokens")
        if isinstance(self.config, EncoderDecoder):
            cache = self._model.start(rest.pop("source"), length=tokens.shape[1])
        else:
            cache = self._model.empty_cache(*tokens.shape)
        logits = []
        for start, stop in [(0, read), *((at, at + 1) for at in range(read, tokens.shape[1]))]:
            own = {name: value[:, start:stop] for name, value in rest.items()}
            answer, cache = self._model.decode(tokens[:, start:stop], cache, **own)
            logits.append(to_array(answer))
        return np.concatenate(logits, axis=1)
