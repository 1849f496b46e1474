"""Feed-forward networks that every token goes through: the closed table from config to module."""

from collections.abc import Callable

from torch import nn

from jax_transformer import config
from torch_reference.nn.ffn.clamped_glu import ClampedGlu
from torch_reference.nn.ffn.glu import Glu
from torch_reference.nn.ffn.mlp import Mlp

DENSE_FFN: dict[type[config.Config], Callable[..., nn.Module]] = {
    config.Mlp: Mlp,
    config.Glu: Glu,
    config.ClampedGlu: ClampedGlu,
}
