"""The causal language model."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jax_transformer import config
from torch_reference.models.cache import Cache
from torch_reference.models.checks import check_positions, check_segments, check_token_types, check_tokens
from torch_reference.models.tower import Aux, Tower, auxiliary
from torch_reference.nn.context import Context
from torch_reference.nn.heads import Head, HeadDims
from torch_reference.nn.params import Maker
from torch_reference.nn.tap import Tap
from torch_reference.ops.dropout import Noise
from torch_reference.ops.mask import causal_mask


class Decoder(Tower):
    """Embedding, stack of blocks, final norm, head."""

    def __init__(self, c: config.Decoder, generator: torch.Generator):
        make = Maker.of_model(c, generator)
        super().__init__(c, c, c.max_length, make)
        self.head = Head(c.head, HeadDims.of(c, c.embedding), make)
        self.config = c

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        segments: Int[Tensor, "B T"] | None = None,
        token_types: Int[Tensor, "B T"] | None = None,
        noise: Noise | None = None,
        return_taps: bool = False,
    ) -> tuple[Float[Tensor, "B T V"], Aux]:
        """Logits of the next token at every position, and auxiliary values.

        ``segments`` number the documents packed into a row (0: padding); tokens of different segments do not see one another
        and positions restart with each. ``noise``, and not ``train()``, turns dropout on. ``return_taps`` adds ``aux["taps"]``,
        named activations. Raises DataError for sequences above ``max_length`` and, outside ``torch.compile``, for ids outside
        their tables.
        """
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens)
        token_types = check_token_types(token_types, tokens, self.config.embedding)
        tap = Tap({} if return_taps else None)
        context = Context(causal_mask(tokens.shape[1], segments, tokens.device))
        x, _, usages = self.states(tokens, context, token_types=token_types, noise=noise, tap=tap)
        logits = self._logits(x)
        tap("logits", logits)
        return logits, auxiliary(tap, {"": (self.config.stack, usages)})

    def empty_cache(self, batch: int, length: int | None = None) -> Cache:
        """A cache with room for ``length`` tokens (default: ``max_length``) in each of ``batch`` rows."""
        length = self.config.max_length if length is None else length
        device = next(self.parameters()).device
        return Cache.empty(self.stack.empty_cache(batch, length), batch, length, device=device)

    def decode(
        self,
        tokens: Int[Tensor, "B T"],
        cache: Cache,
        *,
        segments: Int[Tensor, "B T"] | None = None,
        token_types: Int[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "B T V"], Cache]:
        """Logits of T more tokens after those in ``cache``, and a new cache with them; the given one is left as it is.

        ``segments`` is 1 for a token and 0 for padding, which takes a slot but no position: prompts of different lengths are
        padded on the left. Raises DataError, outside ``torch.compile``, where the cache has no room.
        """
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens, whole=False)
        token_types = check_token_types(token_types, tokens, self.config.embedding)
        extended = cache.extend(torch.ones_like(tokens, dtype=torch.int32) if segments is None else segments)
        check_positions(extended.positions, self.config.embedding, self.config.max_length)
        context = Context(extended.newest(tokens.shape[1]))
        x, layers, _ = self.states(tokens, context, token_types=token_types, cache=(cache.layers, cache.length))
        assert layers is not None
        return self._logits(x), replace(extended, layers=layers)

    def _logits(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T V"]:
        return self.head(x, self.embed)
