"""Feed-forward networks that every token goes through: the closed table from config to module."""

from collections.abc import Callable

from flax import nnx

from jax_transformer import config
from jax_transformer.nn.ffn.clamped_glu import ClampedGlu
from jax_transformer.nn.ffn.glu import Glu
from jax_transformer.nn.ffn.mlp import Mlp

DENSE_FFN: dict[type[config.Config], Callable[..., nnx.Module]] = {
    config.Mlp: Mlp,
    config.Glu: Glu,
    config.ClampedGlu: ClampedGlu,
}
