"""From the last hidden state to logits."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.linear import Embed, project
from torch_reference.nn.params import Maker


class Head(nn.Module):
    """Logits over the vocabulary; a tied head owns no matrix and uses the embedding's."""

    def __init__(self, c: config.Decoder, make: Maker):
        super().__init__()
        self.weight = None if c.head.tied else make.normal((c.vocab_size, c.d_model))
        self.bias = make.constant(0.0, (c.vocab_size,)) if c.head.bias else None
        self.logits_dtype = getattr(torch, c.dtype.logits)

    def forward(self, x: Float[Tensor, "B T D"], embed: Embed) -> Float[Tensor, "B T V"]:
        """Logits in ``dtype.logits``, accumulated in float32 at least."""
        logits = embed.attend(x) if self.weight is None else project(x, self.weight.to(x.dtype))
        if self.bias is not None:
            logits = logits + self.bias.to(logits.dtype)
        return logits.to(self.logits_dtype)
