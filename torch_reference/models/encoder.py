"""The bidirectional model."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jax_transformer import config
from torch_reference.models.checks import check_segments, check_token_types, check_tokens
from torch_reference.models.tower import Aux, Tower, auxiliary
from torch_reference.nn.context import Context
from torch_reference.nn.heads import ENCODER_HEAD, HeadDims
from torch_reference.nn.params import Maker
from torch_reference.nn.tap import Tap
from torch_reference.ops.dropout import Noise
from torch_reference.ops.mask import bidirectional_mask


class Encoder(Tower):
    """Embedding, stack of blocks, final norm, and a head for masked tokens or for classes."""

    def __init__(self, c: config.Encoder, generator: torch.Generator):
        make = Maker.of_model(c, generator)
        super().__init__(c, c, c.max_length, make)
        self.head = ENCODER_HEAD[type(c.head)](c.head, HeadDims.of(c, c.embedding), make)
        self.config = c

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        segments: Int[Tensor, "B T"] | None = None,
        token_types: Int[Tensor, "B T"] | None = None,
        noise: Noise | None = None,
        return_taps: bool = False,
    ) -> tuple[Float[Tensor, "B T V"] | Float[Tensor, "B C"], Aux]:
        """Logits over the vocabulary at every position, or over the classes for every row, and auxiliary values.

        ``segments`` number the documents packed into a row (0: padding); tokens of different segments do not see one another
        and positions restart with each. ``noise``, and not ``train()``, turns dropout on. ``return_taps`` adds ``aux["taps"]``,
        named activations. Raises DataError for sequences above ``max_length`` and, outside ``torch.compile``, for ids outside
        their tables.
        """
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens)
        token_types = check_token_types(token_types, tokens, self.config.embedding)
        tap = Tap({} if return_taps else None)
        context = Context(bidirectional_mask(tokens.shape[1], segments, tokens.device))
        x, _, usages = self.states(tokens, context, token_types=token_types, noise=noise, tap=tap)
        logits = self.head(x, self.embed, segments, None if noise is None else noise.fold(2))
        tap("logits", logits)
        return logits, auxiliary(tap, {"": (self.config.stack, usages)})
