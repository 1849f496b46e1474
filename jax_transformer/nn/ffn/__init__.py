"""Feed-forward networks: the closed table from config to module.

Each is ``ffn(x, context, *, noise, tap) -> (y, usage)``; ``usage`` is None where there are no experts.
"""

from collections.abc import Callable

from flax import nnx

from jax_transformer import config
from jax_transformer.nn.ffn.dense import DENSE_FFN
from jax_transformer.nn.ffn.moe import Moe

FFN: dict[type[config.Config], Callable[..., nnx.Module]] = DENSE_FFN | {config.Moe: Moe}
