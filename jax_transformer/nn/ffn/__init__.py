"""Feed-forward networks: the closed table from config to module."""

from jax_transformer import config
from jax_transformer.nn.ffn.glu import Glu
from jax_transformer.nn.ffn.mlp import Mlp

FFN = {config.Mlp: Mlp, config.Glu: Glu}
