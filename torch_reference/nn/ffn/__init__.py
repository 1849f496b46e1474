"""Feed-forward networks: the closed table from config to module."""

from jax_transformer import config
from torch_reference.nn.ffn.glu import Glu
from torch_reference.nn.ffn.mlp import Mlp

FFN = {config.Mlp: Mlp, config.Glu: Glu}
