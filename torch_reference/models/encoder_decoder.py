"""The sequence-to-sequence model."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.models.cache import Cache, Source
from torch_reference.models.checks import check_positions, check_segments, check_tokens
from torch_reference.models.tower import Aux, Tower, auxiliary
from torch_reference.nn.context import Context
from torch_reference.nn.heads import Head, HeadDims
from torch_reference.nn.linear import Embed
from torch_reference.nn.params import Maker
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.balance import Usage
from torch_reference.ops.dropout import Noise
from torch_reference.ops.mask import Mask, bidirectional_mask, causal_mask, cross_mask


class EncoderDecoder(nn.Module):
    """An encoder over the source, a decoder over the target that reads the encoder's output, a head."""

    def __init__(self, c: config.EncoderDecoder, generator: torch.Generator):
        super().__init__()
        make = Maker.of_model(c, generator)
        self.encoder = Tower(c.encoder, c, c.max_source_length, make)
        self.decoder = Tower(c.decoder, c, c.max_length, make, owns_table=not c.share_embedding)
        self.head = Head(c.head, HeadDims.of(c, c.decoder.embedding), make)
        self.config = c

    def forward(
        self,
        source: Int[Tensor, "B S"],
        tokens: Int[Tensor, "B T"],
        *,
        source_segments: Int[Tensor, "B S"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
        noise: Noise | None = None,
        return_taps: bool = False,
    ) -> tuple[Float[Tensor, "B T V"], Aux]:
        """Logits of the next target token at every position of ``tokens``, which begin with ``start_token``.

        Segments number the pairs packed into a row (0: padding): a target sees the source of its own number. ``noise``, and not
        ``train()``, turns dropout on. ``return_taps`` adds ``aux["taps"]``, named activations. Raises DataError for sequences
        above ``max_source_length`` or ``max_length`` and, outside ``torch.compile``, for ids outside the vocabulary.
        """
        tap = Tap({} if return_taps else None)
        noises = (None, None) if noise is None else (noise.fold(0), noise.fold(1))
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens)
        states, source_mask, read = self._encode(source, source_segments, noises[0], tap.child("encoder"))
        mask = causal_mask(tokens.shape[1], segments, tokens.device)
        context = Context(mask, source=states, source_mask=cross_mask(mask, source_mask))
        rest = {"table": self._decoder_table(), "noise": noises[1], "tap": tap.child("decoder")}
        x, _, written = self.decoder.states(tokens, context, **rest)
        logits = self._logits(x)
        tap("logits", logits)
        c = self.config
        return logits, auxiliary(tap, {"encoder.": (c.encoder.stack, read), "decoder.": (c.decoder.stack, written)})

    def start(
        self, source: Int[Tensor, "B S"], *, source_segments: Int[Tensor, "B S"] | None = None, length: int | None = None
    ) -> Cache:
        """A cache with room for ``length`` target tokens (default: ``max_length``) and every cross-attention's keys and values.

        ``source_segments`` are 1, and 0 for padding. Raises DataError as the model itself does.
        """
        states, mask, _ = self._encode(source, source_segments)
        length = self.config.max_length if length is None else length
        layers = self.decoder.stack.empty_cache(states.shape[0], length)
        source_memory = Source(self.decoder.stack.read_source(states), mask)
        return Cache.empty(layers, states.shape[0], length, source_memory, states.device)

    def decode(
        self, tokens: Int[Tensor, "B T"], cache: Cache, *, segments: Int[Tensor, "B T"] | None = None
    ) -> tuple[Float[Tensor, "B T V"], Cache]:
        """Logits of T more target tokens after those in ``cache`` (from ``start``), and the cache with them.

        ``segments`` is 1 for a token and 0 for padding, which takes a slot but no position. Raises DataError, outside
        ``torch.compile``, where the cache has no room.
        """
        assert cache.source is not None
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens, whole=False)
        extended = cache.extend(torch.ones_like(tokens, dtype=torch.int32) if segments is None else segments)
        check_positions(extended.positions, self.config.decoder.embedding, self.config.max_length)
        mask = extended.newest(tokens.shape[1])
        context = Context(mask, source_mask=cross_mask(mask, cache.source.mask))
        memory = {"cache": (cache.layers, cache.length), "sources": cache.source.layers}
        x, layers, _ = self.decoder.states(tokens, context, table=self._decoder_table(), **memory)
        assert layers is not None
        return self._logits(x), replace(extended, layers=layers)

    def _encode(
        self,
        source: Int[Tensor, "B S"],
        segments: Int[Tensor, "B S"] | None,
        noise: Noise | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Tensor, "B S D"], Mask, dict[int, Usage]]:
        source = check_tokens(source, self.config, "source")
        segments = check_segments(segments, source, "source")
        mask = bidirectional_mask(source.shape[1], segments, source.device)
        states, _, usages = self.encoder.states(source, Context(mask), noise=noise, tap=tap)
        return states, mask, usages

    def _decoder_table(self) -> Embed | None:
        return self.encoder.embed if self.decoder.embed is None else self.decoder.embed

    def _logits(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T V"]:
        return self.head(x, self._decoder_table())
