"""The causal language model."""

from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jax_transformer import config
from jax_transformer.models.cache import Cache
from jax_transformer.models.checks import check_positions, check_segments, check_token_types, check_tokens
from jax_transformer.models.tower import Aux, Tower, auxiliary
from jax_transformer.nn.context import Context
from jax_transformer.nn.heads import Head, HeadDims
from jax_transformer.nn.params import Maker
from jax_transformer.nn.tap import Tap
from jax_transformer.ops.constrain import constrain
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.mask import causal_mask


class Decoder(Tower):
    """Embedding, stack of blocks, final norm, head."""

    def __init__(self, c: config.Decoder, key: Key[Array, ""]):
        make = Maker.of_model(c, key)
        super().__init__(c, c, c.max_length, make)
        self.head = Head(c.head, HeadDims.of(c, c.embedding), make)
        self.config = c

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        *,
        segments: Int[Array, "B T"] | None = None,
        token_types: Int[Array, "B T"] | None = None,
        noise: Noise | None = None,
        return_taps: bool = False,
    ) -> tuple[Float[Array, "B T V"], Aux]:
        """Logits of the next token at every position, and auxiliary values.

        ``segments`` number the documents packed into a row (0: padding); tokens of different segments do not see one another
        and positions restart with each. ``noise`` turns dropout on. ``return_taps`` adds ``aux["taps"]``, named activations.
        Outside ``jax.jit``, raises DataError for ids outside their tables and for sequences above ``max_length``.
        """
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens)
        token_types = check_token_types(token_types, tokens, self.config.embedding)
        tap = Tap({} if return_taps else None)
        context = Context(causal_mask(tokens.shape[1], segments))
        x, _, usages = self.states(tokens, context, token_types=token_types, noise=noise, tap=tap)
        logits = self._logits(x)
        tap("logits", logits)
        return logits, auxiliary(tap, {"": (self.config.stack, usages)})

    def empty_cache(self, batch: int, length: int | None = None) -> Cache:
        """A cache with room for ``length`` tokens (default: ``max_length``) in each of ``batch`` rows."""
        length = self.config.max_length if length is None else length
        return Cache.empty(self.stack.empty_cache(batch, length), batch, length)

    def decode(
        self,
        tokens: Int[Array, "B T"],
        cache: Cache,
        *,
        segments: Int[Array, "B T"] | None = None,
        token_types: Int[Array, "B T"] | None = None,
    ) -> tuple[Float[Array, "B T V"], Cache]:
        """Logits of T more tokens after those in ``cache``, and the cache with them.

        ``segments`` is 1 for a token and 0 for padding, which takes a slot but no position: prompts of different lengths are
        padded on the left. Raises DataError, outside ``jax.jit``, where the cache has no room.
        """
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens, whole=False)
        token_types = check_token_types(token_types, tokens, self.config.embedding)
        extended = cache.extend(jnp.ones_like(tokens) if segments is None else segments)
        check_positions(extended.positions, self.config.embedding, self.config.max_length)
        context = Context(extended.newest(tokens.shape[1]))
        x, layers, _ = self.states(tokens, context, token_types=token_types, cache=(cache.layers, cache.length))
        assert layers is not None
        return self._logits(x), replace(extended, layers=layers)

    def _logits(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        return constrain(self.head(x, self.embed), "batch", None, "vocab")
