"""The decoding loop: one prefill, then a loop on the device over a preallocated cache; Python never touches a token.

A decoder's prefill fills the cache with the prompts; an encoder-decoder's encodes them, as the sources of its targets.
Shapes are static: prompts are padded on the left and both the prompt and the room for new tokens are rounded up to a power of
two, so that all requests together compile a few programs. Padding takes cache slots but no positions, and nobody sees it:
it changes the result by rounding at most.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jax_transformer import config
from jax_transformer.config import Sampling
from jax_transformer.config.errors import WeightsError
from jax_transformer.generate.request import Prompts, check_request, left_pad, rereads, split_prompts
from jax_transformer.generate.sampler import next_tokens
from jax_transformer.models.cache import Cache
from jax_transformer.models.decoder import Decoder
from jax_transformer.models.encoder_decoder import EncoderDecoder

SMALLEST_BUCKET = 16


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    """What the loop carries, all of it on the device."""

    cache: Cache
    last: Int[Array, "B"]
    """Each row's newest token, which is not in the cache yet."""
    tokens: Int[Array, "B M"]
    lengths: Int[Array, "B"]
    """How many of ``tokens`` each row has produced: up to its stop token, which is not one of them."""
    running: Bool[Array, "B"]
    finite: Bool[Array, ""]
    step: Int[Array, ""]


@dataclass(frozen=True)
class _Loop:
    """A started request and the fixed arguments of its loop."""

    model: Decoder | EncoderDecoder
    state: _State
    settings: Sampling
    stop: Int[np.ndarray, "stops"]
    """Padded with -1, which is no token."""
    num_tokens: int
    prompts: Prompts
    anew: list[int]
    """Steps before which everything is read anew."""

    def advance(self, state: _State, until: int) -> _State:
        """The state after step ``until``, or earlier if every row has stopped; ``state`` is used up."""
        static = self.settings.model_copy(update={"seed": 0})  # the real one is an argument: no compilation per seed
        seed = np.int32(self.settings.seed)
        state = _advance(self.model, state, seed, self.stop, np.int32(until), settings=static, num_tokens=self.num_tokens)
        if not bool(state.finite):
            raise WeightsError(
                f"logits of new token {int(state.step) - 1} are not finite: the weights are damaged or diverged in training, "
                f"or dtype.compute={self.model.config.dtype.compute} overflows"
            )
        return state

    def run(self, state: _State, until: int) -> _State:
        """``advance``, and reading anew on the way."""
        for step in [step for step in self.anew if int(state.step) <= step < until]:
            state = self._read_anew(self.advance(state, step))
        return self.advance(state, until)

    def _read_anew(self, state: _State) -> _State:
        """The same state with a new cache: of all tokens so far but the last, which counts for how they are rotated."""
        drawn = np.asarray(state.tokens)[:, : int(state.step)].tolist()
        rows = [[*prompt, *more] for prompt, more in zip(self.prompts, drawn, strict=True)]
        longest = max(map(len, rows))
        tokens, segments = left_pad(rows, min(_bucket(longest), self.model.config.max_length))
        fresh = _prefill(self.model, tokens, segments, state.last, room=state.tokens.shape[1])
        return replace(state, cache=_without_last(fresh.cache))


def generate(
    model: Decoder | EncoderDecoder,
    prompts: Prompts,
    *,
    settings: Sampling,
    max_new_tokens: int,
    stop_tokens: Sequence[int] = (),
    num_tokens: int | None = None,
) -> list[list[int]]:
    """Continues every prompt by up to ``max_new_tokens`` tokens; a row ends before the first of its ``stop_tokens``.

    The prompts of an encoder-decoder are its sources: what it returns are their targets, without ``start_token``.
    Ids at or above ``num_tokens`` (a vocabulary padded beyond the tokenizer's) are never sampled. A row depends on its prompt,
    its index in the batch and the seed, and not on the other rows; greedy rows do not depend on the index either.
    Raises DataError for a request that the model cannot serve, WeightsError where its logits are not finite.
    """
    loop = _start(model, prompts, settings, max_new_tokens, stop_tokens, num_tokens)
    state = loop.run(loop.state, max_new_tokens)
    tokens, lengths = jax.device_get((state.tokens, state.lengths))
    return [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]


def stream(
    model: Decoder | EncoderDecoder,
    prompt: Sequence[int],
    *,
    settings: Sampling,
    max_new_tokens: int,
    stop_tokens: Sequence[int] = (),
    num_tokens: int | None = None,
) -> Iterator[int]:
    """The tokens of ``generate(model, [prompt], ...)[0]``, each as soon as it is drawn; raises the same, DataError at once."""
    return _stream(_start(model, [prompt], settings, max_new_tokens, stop_tokens, num_tokens), max_new_tokens)


def _stream(loop: _Loop, max_new_tokens: int) -> Iterator[int]:
    state = loop.state
    for step in range(max_new_tokens):
        state = loop.run(state, step + 1)
        token, running = jax.device_get((state.last, state.running))
        if not running[0]:
            return
        yield int(token[0])


def _start(
    model: Decoder | EncoderDecoder,
    prompts: Prompts,
    settings: Sampling,
    max_new_tokens: int,
    stop_tokens: Sequence[int],
    num_tokens: int | None,
) -> _Loop:
    """Checks the request and prefills. The first token that the loop decodes is not among those read, so that the prefill
    needs no logits, and [B, T, V] is never computed."""
    num_tokens = check_request(model.config, prompts, max_new_tokens, stop_tokens, num_tokens)
    read, last, limit = split_prompts(model.config, prompts)
    tokens, segments = left_pad(read, min(_bucket(max(map(len, read))), limit))
    state = _prefill(model, tokens, segments, np.array(last, np.int32), room=_bucket(max_new_tokens))
    stop = np.full(_bucket(len(stop_tokens)), -1, np.int32)
    stop[: len(stop_tokens)] = stop_tokens
    return _Loop(model, state, settings, stop, num_tokens, prompts, rereads(model.config, prompts, max_new_tokens))


def _bucket(size: int) -> int:
    """The power of two, at least SMALLEST_BUCKET, that ``size`` is rounded up to."""
    return max(SMALLEST_BUCKET, 1 << (size - 1).bit_length())


def _read_prompts(model: Decoder, tokens: Int[Array, "B T"], segments: Int[Array, "B T"], room: int) -> Cache:
    batch, length = tokens.shape
    return model.decode(tokens, model.empty_cache(batch, length + room), segments=segments)[1]


def _read_sources(model: EncoderDecoder, tokens: Int[Array, "B T"], segments: Int[Array, "B T"], room: int) -> Cache:
    return model.start(tokens, source_segments=segments, length=room)


_READ: dict[type[Any], Callable[..., Cache]] = {config.Decoder: _read_prompts, config.EncoderDecoder: _read_sources}


@partial(jax.jit, static_argnames="room")
def _prefill(
    model: Decoder | EncoderDecoder,
    tokens: Int[Array, "B T"],
    segments: Int[Array, "B T"],
    last: Int[Array, "B"],
    *,
    room: int,
) -> _State:
    """A new cache that holds what the model read of the prompts, with ``room`` slots free."""
    batch = tokens.shape[0]
    return _State(
        cache=_READ[type(model.config)](model, tokens, segments, room),
        last=last,
        tokens=jnp.zeros((batch, room), jnp.int32),
        lengths=jnp.zeros(batch, jnp.int32),
        running=jnp.ones(batch, bool),
        finite=jnp.array(True),
        step=jnp.zeros((), jnp.int32),
    )


_without_last = jax.jit(Cache.without_last)


@partial(jax.jit, static_argnames=("settings", "num_tokens"), donate_argnames="state")
def _advance(
    model: Decoder | EncoderDecoder,
    state: _State,
    seed: Int[Array, ""],
    stop: Int[Array, "stops"],
    until: Int[Array, ""],
    *,
    settings: Sampling,
    num_tokens: int,
) -> _State:
    """Decodes on the device until step ``until``, or until no row is running."""

    def wanted(state: _State) -> Bool[Array, ""]:
        return (state.step < until) & jnp.any(state.running) & state.finite

    def decode(state: _State) -> _State:
        logits, cache = model.decode(state.last[:, None], state.cache)
        logits = logits[:, 0, :num_tokens]
        token = next_tokens(logits, settings, seed, state.step)
        running = state.running & jnp.all(token[:, None] != stop[None, :], axis=1)
        return _State(
            cache=cache,
            last=token,
            tokens=jax.lax.dynamic_update_slice_in_dim(state.tokens, token[:, None], state.step, axis=1),
            lengths=state.lengths + running.astype(jnp.int32),
            running=running,
            finite=jnp.all(jnp.isfinite(logits) | ~state.running[:, None]),
            step=state.step + 1,
        )

    return jax.lax.while_loop(wanted, decode, state)
