"""The causal language model."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.models.checks import check_room, check_segments, check_tokens
from torch_reference.nn.heads import Head
from torch_reference.nn.linear import Embed
from torch_reference.nn.norm import build_norm
from torch_reference.nn.params import Maker
from torch_reference.nn.stack import Stack, StackCache
from torch_reference.nn.tap import Tap
from torch_reference.ops.dropout import Noise, dropout
from torch_reference.ops.mask import Mask, causal_mask

Aux = dict[str, Tensor | dict[str, Tensor]]


@dataclass(frozen=True)
class Cache:
    """Everything a decoder remembers of the tokens so far."""

    layers: StackCache
    positions: Int[Tensor, "B S"]
    segments: Int[Tensor, "B S"]
    """1 where a slot holds a token, 0 where it is empty or holds padding."""
    length: Int[Tensor, ""]
    """Slots in use, the same in every row."""


class Decoder(nn.Module):
    """Embedding, stack of blocks, final norm, head."""

    def __init__(self, c: config.Decoder, generator: torch.Generator):
        super().__init__()
        residual_std = c.init.std / (2 * c.stack.num_layers) ** 0.5 if c.init.depth_scaled else c.init.std
        make = Maker(generator, c.dtype, c.init.std, residual_std)
        self.embed = Embed(c.vocab_size, c.d_model, make)
        self.stack = Stack(c.stack, c.d_model, make)
        self.final_norm = build_norm(c.final_norm, c.d_model, make)
        self.head = Head(c, make)
        self.config = c

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        segments: Int[Tensor, "B T"] | None = None,
        noise: Noise | None = None,
        return_taps: bool = False,
    ) -> tuple[Float[Tensor, "B T V"], Aux]:
        """Logits of the next token at every position, and auxiliary values.

        ``segments`` number the documents packed into a row (0: padding); tokens of different segments do not see one another
        and positions restart with each. ``noise``, and not ``train()``, turns dropout on. ``return_taps`` adds ``aux["taps"]``,
        every named activation. Outside ``torch.compile``, raises DataError for token ids outside the vocabulary; always for
        sequences above ``max_length``.
        """
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens)
        tap = Tap({} if return_taps else None)
        mask = causal_mask(tokens.shape[1], segments, tokens.device)
        logits, _ = self._forward(tokens, mask, noise=noise, tap=tap)
        return logits, {} if tap.values is None else {"taps": tap.values}

    def empty_cache(self, batch: int, length: int | None = None) -> Cache:
        """A cache with room for ``length`` tokens (default: ``max_length``) in each of ``batch`` rows, beside the weights."""
        length = self.config.max_length if length is None else length
        device = self.embed.weight.device
        slots = torch.zeros((batch, length), dtype=torch.int32, device=device)
        used = torch.zeros((), dtype=torch.int32, device=device)
        return Cache(self.stack.empty_cache(batch, length), slots, slots, used)

    def decode(
        self, tokens: Int[Tensor, "B T"], cache: Cache, *, segments: Int[Tensor, "B T"] | None = None
    ) -> tuple[Float[Tensor, "B T V"], Cache]:
        """Logits of T more tokens after those in ``cache``, and a new cache with them; the given one is left as it is.

        ``segments`` is 1 for a token and 0 for padding, which takes a slot but no position: prompts of different lengths are
        padded on the left. Raises DataError, outside ``torch.compile``, where the cache has no room.
        """
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens)
        check_room(cache.length, tokens.shape[1], cache.positions.shape[1])
        segments = torch.ones_like(tokens, dtype=torch.int32) if segments is None else segments
        past = torch.sum(cache.segments, dim=1, keepdim=True, dtype=torch.int32)
        positions = past + torch.cumsum(segments, dim=1, dtype=torch.int32) - 1
        slots = cache.length + torch.arange(tokens.shape[1], device=tokens.device)
        k_positions = cache.positions.index_copy(1, slots, positions)
        k_segments = cache.segments.index_copy(1, slots, segments)
        mask = Mask(positions, k_positions, segments, k_segments)
        logits, layers = self._forward(tokens, mask, cache=(cache.layers, cache.length))
        assert layers is not None
        return logits, Cache(layers, k_positions, k_segments, cache.length + tokens.shape[1])

    def _forward(
        self,
        tokens: Int[Tensor, "B T"],
        mask: Mask,
        *,
        noise: Noise | None = None,
        cache: tuple[StackCache, Int[Tensor, ""]] | None = None,
        tap: Tap | None = None,
    ) -> tuple[Float[Tensor, "B T V"], StackCache | None]:
        tap = tap or Tap()
        x = self.embed(tokens)
        if noise is not None:
            x = dropout(x, self.config.embed_dropout, noise.fold(0))
        tap("embed", x)
        stack_noise = None if noise is None else noise.fold(1)
        x, layers = self.stack(x, mask, noise=stack_noise, cache=cache, tap=tap.child("stack"))
        x = self.final_norm(x)
        tap("final_norm", x)
        logits = self.head(x, self.embed)
        tap("logits", logits)
        return logits, layers
