"""The decoding loop: one prefill, then a token per row and step over a preallocated cache.

A decoder's prefill fills the cache with the prompts; an encoder-decoder's encodes them, as the sources of its targets.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from jax_transformer import config
from jax_transformer.config import Sampling
from jax_transformer.config.errors import WeightsError
from torch_reference.generate.request import Prompts, check_request, left_pad, rereads, split_prompts
from torch_reference.generate.sampler import next_tokens
from torch_reference.models.cache import Cache
from torch_reference.models.decoder import Decoder
from torch_reference.models.encoder_decoder import EncoderDecoder


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
    Greedy tokens equal those of ``jax_transformer``; drawn ones have the same distribution.
    Raises DataError for a request that the model cannot serve, WeightsError where its logits are not finite.
    """
    num_tokens = check_request(model.config, prompts, max_new_tokens, stop_tokens, num_tokens)
    results: list[list[int]] = [[] for _ in prompts]
    for tokens, running in _steps(model, prompts, settings, max_new_tokens, stop_tokens, num_tokens):
        for result, token, alive in zip(results, tokens.tolist(), running.tolist(), strict=True):
            if alive:
                result.append(token)
    return results


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
    num_tokens = check_request(model.config, [prompt], max_new_tokens, stop_tokens, num_tokens)
    steps = _steps(model, [prompt], settings, max_new_tokens, stop_tokens, num_tokens)
    return (int(token) for token, running in steps if running)


@torch.inference_mode()  # as a decorator: inside a generator, a context would reach the caller
def _steps(
    model: Decoder | EncoderDecoder,
    prompts: Prompts,
    settings: Sampling,
    max_new_tokens: int,
    stop_tokens: Sequence[int],
    num_tokens: int,
) -> Iterator[tuple[Int[Tensor, "B"], Bool[Tensor, "B"]]]:
    """Each step's token per row, and which rows are still running; ends when none is."""
    device = next(model.parameters()).device
    read, first, _ = split_prompts(model.config, prompts)
    tokens, segments = (torch.from_numpy(a).to(device) for a in left_pad(read, max(map(len, read))))
    last = torch.tensor(first, device=device)
    stop = torch.tensor([int(token) for token in stop_tokens], device=device, dtype=last.dtype)
    running = torch.ones_like(last, dtype=torch.bool)
    cache = _READ[type(model.config)](model, tokens, segments, max_new_tokens)
    anew, rows = rereads(model.config, prompts, max_new_tokens), [list(prompt) for prompt in prompts]
    for step in range(max_new_tokens):
        if step in anew:
            whole = (torch.from_numpy(a).to(device) for a in left_pad(rows, max(map(len, rows))))
            cache = _READ[type(model.config)](model, *whole, max_new_tokens).without_last()
        logits, cache = model.decode(last[:, None], cache)
        logits = logits[:, 0, :num_tokens]
        if not logits[running].isfinite().all():
            raise WeightsError(
                f"logits of new token {step} are not finite: the weights are damaged or diverged in training, "
                f"or dtype.compute={model.config.dtype.compute} overflows"
            )
        last = next_tokens(logits, settings, settings.seed, step)
        running = running & ~torch.isin(last, stop)
        if not running.any():
            return
        for row, token in zip(rows, last.tolist(), strict=True):
            row.append(token)
        yield last, running


def _read_prompts(model: Decoder, tokens: Int[Tensor, "B T"], segments: Int[Tensor, "B T"], room: int) -> Cache:
    batch, length = tokens.shape
    cache = model.empty_cache(batch, length + room)
    return model.decode(tokens, cache, segments=segments)[1] if length else cache


def _read_sources(model: EncoderDecoder, tokens: Int[Tensor, "B T"], segments: Int[Tensor, "B T"], room: int) -> Cache:
    return model.start(tokens, source_segments=segments, length=room)


_READ: dict[type[Any], Callable[..., Cache]] = {config.Decoder: _read_prompts, config.EncoderDecoder: _read_sources}
