"""The sequence-to-sequence model."""

from dataclasses import replace

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from jax_transformer import config
from jax_transformer.models.cache import Cache, Source
from jax_transformer.models.checks import check_positions, check_segments, check_tokens
from jax_transformer.models.tower import Aux, Tower, auxiliary
from jax_transformer.nn.context import Context
from jax_transformer.nn.heads import Head, HeadDims
from jax_transformer.nn.linear import Embed
from jax_transformer.nn.params import Maker
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.balance import Usage
from jax_transformer.ops.constrain import constrain
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.mask import Mask, bidirectional_mask, causal_mask, cross_mask


class EncoderDecoder(nnx.Module):
    """An encoder over the source, a decoder over the target that reads the encoder's output, a head."""

    def __init__(self, c: config.EncoderDecoder, key: Key[Array, ""]):
        make = Maker.of_model(c, key)
        self.encoder = Tower(c.encoder, c, c.max_source_length, make)
        self.decoder = Tower(c.decoder, c, c.max_length, make, owns_table=not c.share_embedding)
        self.head = Head(c.head, HeadDims.of(c, c.decoder.embedding), make)
        self.config = c

    def __call__(
        self,
        source: Int[Array, "B S"],
        tokens: Int[Array, "B T"],
        *,
        source_segments: Int[Array, "B S"] | None = None,
        segments: Int[Array, "B T"] | None = None,
        noise: Noise | None = None,
        return_taps: bool = False,
    ) -> tuple[Float[Array, "B T V"], Aux]:
        """Logits of the next target token at every position of ``tokens``, which begin with ``start_token``.

        Segments number the pairs packed into a row (0: padding): a target sees the source of its own number. ``noise`` turns
        dropout on. ``return_taps`` adds ``aux["taps"]``, named activations. Outside ``jax.jit``, raises DataError for ids
        outside the vocabulary and for sequences above ``max_source_length`` or ``max_length``.
        """
        tap = Tap({} if return_taps else None)
        noises = (None, None) if noise is None else (noise.fold(0), noise.fold(1))
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens)
        states, source_mask, read = self._encode(source, source_segments, noises[0], tap.child("encoder"))
        mask = causal_mask(tokens.shape[1], segments)
        context = Context(mask, source=states, source_mask=cross_mask(mask, source_mask))
        rest = {"table": self._decoder_table(), "noise": noises[1], "tap": tap.child("decoder")}
        x, _, written = self.decoder.states(tokens, context, **rest)
        logits = self._logits(x)
        tap("logits", logits)
        c = self.config
        return logits, auxiliary(tap, {"encoder.": (c.encoder.stack, read), "decoder.": (c.decoder.stack, written)})

    def start(
        self, source: Int[Array, "B S"], *, source_segments: Int[Array, "B S"] | None = None, length: int | None = None
    ) -> Cache:
        """A cache with room for ``length`` target tokens (default: ``max_length``) and every cross-attention's keys and values.

        ``source_segments`` are 1, and 0 for padding. Raises DataError as the model itself does.
        """
        states, mask, _ = self._encode(source, source_segments)
        length = self.config.max_length if length is None else length
        layers = self.decoder.stack.empty_cache(states.shape[0], length)
        return Cache.empty(layers, states.shape[0], length, Source(self.decoder.stack.read_source(states), mask))

    def decode(
        self, tokens: Int[Array, "B T"], cache: Cache, *, segments: Int[Array, "B T"] | None = None
    ) -> tuple[Float[Array, "B T V"], Cache]:
        """Logits of T more target tokens after those in ``cache`` (from ``start``), and the cache with them.

        ``segments`` is 1 for a token and 0 for padding, which takes a slot but no position. Raises DataError, outside
        ``jax.jit``, where the cache has no room.
        """
        assert cache.source is not None
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens, whole=False)
        extended = cache.extend(jnp.ones_like(tokens) if segments is None else segments)
        check_positions(extended.positions, self.config.decoder.embedding, self.config.max_length)
        mask = extended.newest(tokens.shape[1])
        context = Context(mask, source_mask=cross_mask(mask, cache.source.mask))
        memory = {"cache": (cache.layers, cache.length), "sources": cache.source.layers}
        x, layers, _ = self.decoder.states(tokens, context, table=self._decoder_table(), **memory)
        assert layers is not None
        return self._logits(x), replace(extended, layers=layers)

    def _encode(
        self,
        source: Int[Array, "B S"],
        segments: Int[Array, "B S"] | None,
        noise: Noise | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Array, "B S D"], Mask, dict[int, Usage]]:
        source = check_tokens(source, self.config, "source")
        segments = check_segments(segments, source, "source")
        mask = bidirectional_mask(source.shape[1], segments)
        states, _, usages = self.encoder.states(source, Context(mask), noise=noise, tap=tap)
        return states, mask, usages

    def _decoder_table(self) -> Embed | None:
        return self.encoder.embed if self.decoder.embed is None else self.decoder.embed

    def _logits(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        return constrain(self.head(x, self._decoder_table()), "batch", None, "vocab")
