"""From token ids to the first hidden states."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.absolute_position import ABSOLUTE_POSITION
from torch_reference.nn.linear import Embed, Linear
from torch_reference.nn.norm import build_norm
from torch_reference.nn.params import Maker
from torch_reference.ops.dropout import Noise, dropout


class InputEmbedding(nn.Module):
    """``project(dropout(norm(scale * table[token] + positions + types[token_type])))``.

    The token table is not part of it: a tied head and the other half of an encoder-decoder use it too.
    """

    def __init__(self, c: config.Embedding, d_model: int, max_length: int, make: Maker):
        super().__init__()
        width = c.width(d_model)
        absolute = None if c.position is None else ABSOLUTE_POSITION[type(c.position)]
        self.positions = None if absolute is None else absolute(c.position, max_length, width, make)
        self.types = Embed(c.num_token_types, width, make) if c.num_token_types else None
        self.norm = None if c.norm is None else build_norm(c.norm, width, make)
        inputs, outputs = {"table": width}, {"embed": d_model}
        self.projection = Linear(inputs, outputs, make, bias=c.projection_bias) if width != d_model else None
        self.factor = c.factor(d_model)
        self.dropout = c.dropout

    def forward(
        self,
        table: Embed,
        tokens: Int[Tensor, "B T"],
        positions: Int[Tensor, "#B T"],
        token_types: Int[Tensor, "B T"] | None = None,
        noise: Noise | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Hidden states of tokens at ``positions``. No ``token_types`` means type 0 everywhere."""
        x = table(tokens)
        if self.factor != 1.0:
            x = x * torch.tensor(self.factor, dtype=x.dtype)
        if self.positions is not None:
            x = x + self.positions(positions)
        if self.types is not None:
            x = x + self.types(torch.zeros_like(tokens) if token_types is None else token_types)
        x = x if self.norm is None else self.norm(x)
        x = dropout(x, self.dropout, noise)
        return x if self.projection is None else self.projection(x)
