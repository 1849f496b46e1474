"""What JAX answers for a folder: its tensors as stored, logits, logits through a cache."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_transformer.config import Dtype, DtypeName, EncoderDecoder
from jax_transformer.convert.layout import to_hub
from jax_transformer.convert.pretrained import load_pretrained
from jax_transformer.models import abstract_model
from jax_transformer.nn.params import get_params, param_specs, with_params


class Side:
    """The model of a folder, ours or Hugging Face's, that computes in ``dtype`` throughout."""

    def __init__(self, folder: Path, dtype: DtypeName):
        stored = load_pretrained(folder)
        self._stored, self._specs = get_params(stored), param_specs(stored)
        self.config = stored.config.model_copy(update={"dtype": Dtype(param=dtype, compute=dtype, logits=dtype)})
        cast = {name: jnp.asarray(value, dtype) for name, value in self._stored.items()}
        self._model = with_params(abstract_model(self.config), cast)

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """The hub tensors that the framework holds, in the dtype that they are stored in."""
        return to_hub({name: np.asarray(value) for name, value in self._stored.items()}, self._specs)

    def logits(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The answer to ``inputs``, arguments of the model by name."""
        return np.asarray(_forward(self._model, dict(inputs)))

    def decode(self, inputs: Mapping[str, np.ndarray], read: int) -> np.ndarray:
        """The same through a cache: the first ``read`` tokens at once, then one by one."""
        rest = dict(inputs)
        tokens = rest.pop("tokens")
        cache = _start(self._model, rest.pop("source", None), rows=tokens.shape[0], room=tokens.shape[1])
        logits = []
        for start, stop in [(0, read), *((at, at + 1) for at in range(read, tokens.shape[1]))]:
            own = {name: value[:, start:stop] for name, value in rest.items()}
            answer, cache = _decode(self._model, tokens[:, start:stop], cache, own)
            logits.append(np.asarray(answer))
        return np.concatenate(logits, axis=1)


@jax.jit
def _forward(model: Any, inputs: dict[str, jax.Array]) -> jax.Array:
    return model(**inputs)[0]


def _start(model: Any, source: np.ndarray | None, *, rows: int, room: int) -> Any:
    if isinstance(model.config, EncoderDecoder):
        return jax.jit(lambda model, source: model.start(source, length=room))(model, source)
    return model.empty_cache(rows, room)


@jax.jit
def _decode(model: Any, tokens: jax.Array, cache: Any, rest: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
    return model.decode(tokens, cache, **rest)
