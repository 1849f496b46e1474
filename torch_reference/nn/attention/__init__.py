"""Token mixers: the closed table from config to module."""

from jax_transformer import config
from torch_reference.nn.attention.softmax import SoftmaxAttention

ATTENTION = {config.Softmax: SoftmaxAttention}
