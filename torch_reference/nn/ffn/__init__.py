"""Feed-forward networks: the closed table from config to module.

Each is ``ffn(x, context, *, noise, tap) -> (y, usage)``; ``usage`` is None where there are no experts.
"""

from collections.abc import Callable

from torch import nn

from jax_transformer import config
from torch_reference.nn.ffn.dense import DENSE_FFN
from torch_reference.nn.ffn.moe import Moe

FFN: dict[type[config.Config], Callable[..., nn.Module]] = DENSE_FFN | {config.Moe: Moe}
