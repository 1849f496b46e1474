"""The causal language model."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from jax_transformer import config
from jax_transformer.models.checks import check_room, check_segments, check_tokens
from jax_transformer.nn.heads import Head
from jax_transformer.nn.linear import Embed
from jax_transformer.nn.norm import build_norm
from jax_transformer.nn.params import Maker
from jax_transformer.nn.stack import Stack, StackCache
from jax_transformer.nn.tap import Tap
from jax_transformer.ops.constrain import constrain
from jax_transformer.ops.dropout import Noise, dropout
from jax_transformer.ops.mask import Mask, causal_mask

Aux = dict[str, jax.Array | dict[str, jax.Array]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """Everything a decoder remembers of the tokens so far."""

    layers: StackCache
    positions: Int[Array, "B S"]
    segments: Int[Array, "B S"]
    """1 where a slot holds a token, 0 where it is empty or holds padding."""
    length: Int[Array, ""]
    """Slots in use, the same in every row."""


class Decoder(nnx.Module):
    """Embedding, stack of blocks, final norm, head."""

    def __init__(self, c: config.Decoder, key: Key[Array, ""]):
        residual_std = c.init.std / (2 * c.stack.num_layers) ** 0.5 if c.init.depth_scaled else c.init.std
        make = Maker(key, c.dtype, c.init.std, residual_std)
        self.embed = Embed(c.vocab_size, c.d_model, make)
        self.stack = Stack(c.stack, c.d_model, make)
        self.final_norm = build_norm(c.final_norm, c.d_model, make)
        self.head = Head(c, make)
        self.config = c

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        *,
        segments: Int[Array, "B T"] | None = None,
        noise: Noise | None = None,
        return_taps: bool = False,
    ) -> tuple[Float[Array, "B T V"], Aux]:
        """Logits of the next token at every position, and auxiliary values.

        ``segments`` number the documents packed into a row (0: padding); tokens of different segments do not see one another
        and positions restart with each. ``noise`` turns dropout on. ``return_taps`` adds ``aux["taps"]``, named activations.
        Outside ``jax.jit``, raises DataError for token ids outside the vocabulary and for sequences above ``max_length``.
        """
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens)
        tap = Tap({} if return_taps else None)
        mask = causal_mask(tokens.shape[1], segments)
        logits, _ = self._forward(tokens, mask, noise=noise, tap=tap)
        return logits, {} if tap.values is None else {"taps": tap.values}

    def empty_cache(self, batch: int, length: int | None = None) -> Cache:
        """A cache with room for ``length`` tokens (default: ``max_length``) in each of ``batch`` rows."""
        length = self.config.max_length if length is None else length
        slots = jnp.zeros((batch, length), jnp.int32)
        return Cache(self.stack.empty_cache(batch, length), slots, slots, jnp.zeros((), jnp.int32))

    def decode(
        self, tokens: Int[Array, "B T"], cache: Cache, *, segments: Int[Array, "B T"] | None = None
    ) -> tuple[Float[Array, "B T V"], Cache]:
        """Logits of T more tokens after those in ``cache``, and the cache with them.

        ``segments`` is 1 for a token and 0 for padding, which takes a slot but no position: prompts of different lengths are
        padded on the left. Raises DataError, outside ``jax.jit``, where the cache has no room.
        """
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens)
        check_room(cache.length, tokens.shape[1], cache.positions.shape[1])
        segments = jnp.ones_like(tokens) if segments is None else segments
        past = jnp.sum(cache.segments, axis=1, keepdims=True, dtype=jnp.int32)
        positions = past + jnp.cumsum(segments, axis=1, dtype=jnp.int32) - 1
        store = jax.lax.dynamic_update_slice_in_dim
        k_positions = store(cache.positions, positions, cache.length, axis=1)
        k_segments = store(cache.segments, segments, cache.length, axis=1)
        mask = Mask(positions, k_positions, segments, k_segments)
        logits, layers = self._forward(tokens, mask, cache=(cache.layers, cache.length))
        assert layers is not None
        return logits, Cache(layers, k_positions, k_segments, cache.length + tokens.shape[1])

    def _forward(
        self,
        tokens: Int[Array, "B T"],
        mask: Mask,
        *,
        noise: Noise | None = None,
        cache: tuple[StackCache, Int[Array, ""]] | None = None,
        tap: Tap | None = None,
    ) -> tuple[Float[Array, "B T V"], StackCache | None]:
        tap = tap or Tap()
        x = self.embed(tokens)
        if noise is not None:
            x = dropout(x, self.config.embed_dropout, noise.fold(0))
        x = constrain(x, "batch", None, None)
        tap("embed", x)
        stack_noise = None if noise is None else noise.fold(1)
        x, layers = self.stack(x, mask, noise=stack_noise, cache=cache, tap=tap.child("stack"))
        x = self.final_norm(x)
        tap("final_norm", x)
        logits = constrain(self.head(x, self.embed), "batch", None, "vocab")
        tap("logits", logits)
        return logits, layers
