"""Small models in both frameworks: windows, grouped and single key/value heads, layers without positions or a source."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import jax_transformer.generate.engine as jax_engine
import jax_transformer.generate.sampler as jax_sampler
import torch_reference.generate.engine as torch_engine
import torch_reference.generate.sampler as torch_sampler
from jax_transformer import config as c
from jax_transformer.convert.layout import from_hub
from jax_transformer.models import abstract_model
from jax_transformer.nn.params import param_specs, with_params
from parity_tests.inputs import Hub, cast_all, perturb
from torch_reference.checkpoint import to_array, to_tensor
from torch_reference.models import build_model as build_torch

VOCAB, MAX_LENGTH, FULL_LENGTH = 29, 80, 40
MAX_SOURCE, MAX_TARGET, START = 27, 21, 6
GREEDY = c.Sampling(temperature=0.0)
SAMPLED = c.Sampling(temperature=0.8, top_k=20, top_p=0.95, seed=3)
PROMPTS = ([5, 11, 2, 28, 7, 7, 19], [4], [9, 0, 3, 1])
WINDOWED = c.Softmax(num_heads=4, num_kv_heads=2, head_dim=6, window=5)
BLIND = c.Softmax(num_heads=3, num_kv_heads=1, head_dim=8, position=c.NoPosition())


@dataclass(frozen=True)
class Side:
    """The same weights in one framework."""

    model: Any
    engine: ModuleType
    forward: Callable[..., np.ndarray]
    """The model's inputs -> logits, in one pass without a cache."""
    draw: Callable[[np.ndarray, c.Sampling, int, int], np.ndarray]
    """``next_tokens`` of arrays."""

    def generate(self, prompts: Any = PROMPTS, settings: c.Sampling = GREEDY, max_new_tokens: int = 16, **rest: Any) -> Any:
        """``generate`` with these defaults."""
        return self.engine.generate(self.model, prompts, settings=settings, max_new_tokens=max_new_tokens, **rest)

    def stream(self, prompt: Any, settings: c.Sampling = GREEDY, max_new_tokens: int = 16, **rest: Any) -> Any:
        """``stream`` with these defaults."""
        return self.engine.stream(self.model, prompt, settings=settings, max_new_tokens=max_new_tokens, **rest)


def model_config(dtype: str = "float32", vocab_size: int = VOCAB) -> c.Decoder:
    """The config of the decoder."""
    norm = c.RMSNorm()
    pattern = (
        c.Block(attention=WINDOWED, ffn=c.Glu(hidden_dim=20), norm=norm),
        c.Block(attention=BLIND, ffn=c.Mlp(hidden_dim=18), norm=norm),
    )
    return c.Decoder(
        vocab_size=vocab_size,
        d_model=16,
        max_length=MAX_LENGTH,
        stack=c.Stack(pattern=pattern, num_layers=4),
        final_norm=norm,
        head=c.Head(tied=False),
        dtype=c.Dtype(param=dtype, compute=dtype, logits=dtype),
    )


def linear_time_config(dtype: str = "float32", vocab_size: int = VOCAB) -> c.Decoder:
    """The config of a decoder that keeps sums and states beside a window of keys."""
    delta = c.GatedDelta(num_key_heads=2, num_value_heads=4, key_dim=6, v_dim=5, chunk=8)
    mixers = (c.Linear(num_heads=4, num_kv_heads=2, head_dim=6, chunk=8), delta, WINDOWED)
    pattern = tuple(c.Block(attention=own, ffn=c.Glu(hidden_dim=20), norm=c.RMSNorm()) for own in mixers)
    stack = c.Stack(pattern=pattern, num_layers=5)
    return model_config(dtype, vocab_size).model_copy(update={"stack": stack})


def changing_config(dtype: str = "float32", vocab_size: int = VOCAB) -> c.Decoder:
    """The config of a decoder whose rotation changes after ten tokens."""
    long = c.LongRopeScaling(factor=4.0, original_length=10, short_factors=(1.0, 1.2, 1.5), long_factors=(2.0, 4.0, 9.0))
    turning = c.Softmax(num_heads=4, num_kv_heads=2, head_dim=6, position=c.Rope(base=50.0, scaling=long))
    stack = c.Stack(pattern=(c.Block(attention=turning, ffn=c.Glu(hidden_dim=20), norm=c.RMSNorm()),), num_layers=3)
    return model_config(dtype, vocab_size).model_copy(update={"stack": stack})


def source_config(dtype: str = "float32", vocab_size: int = VOCAB) -> c.EncoderDecoder:
    """The config of the encoder-decoder: learned positions of the source, every other decoder layer reads it."""
    norm = c.RMSNorm()
    free = c.Softmax(num_heads=3, head_dim=4, position=c.NoPosition())
    cross = c.CrossAttention(num_heads=4, num_kv_heads=2, head_dim=6)
    reads = c.Block(attention=WINDOWED, cross_attention=cross, ffn=c.Glu(hidden_dim=20), norm=norm)
    alone = c.Block(attention=BLIND, ffn=c.Mlp(hidden_dim=18), norm=norm)
    encodes = c.Block(attention=free, ffn=c.Mlp(hidden_dim=22), norm=norm)
    return c.EncoderDecoder(
        vocab_size=vocab_size,
        d_model=16,
        max_source_length=MAX_SOURCE,
        max_length=MAX_TARGET,
        encoder=c.Tower(
            embedding=c.Embedding(position=c.Learned()), stack=c.Stack(pattern=(encodes,), num_layers=2), final_norm=norm
        ),
        decoder=c.Tower(stack=c.Stack(pattern=(reads, alone), num_layers=3), final_norm=norm),
        start_token=START,
        head=c.Head(tied=False),
        dtype=c.Dtype(param=dtype, compute=dtype, logits=dtype),
    )


def encoder_config(head: c.EncoderHead, vocab_size: int = VOCAB) -> c.Encoder:
    """The config of an encoder."""
    stack = c.Stack(pattern=(c.Block(attention=WINDOWED, ffn=c.Glu(hidden_dim=20), norm=c.RMSNorm()),), num_layers=2)
    return c.Encoder(vocab_size=vocab_size, d_model=16, max_length=MAX_LENGTH, stack=stack, final_norm=None, head=head)


@cache
def side(framework: str, dtype: str = "float32", config: Callable[[str], c.Model] = model_config) -> Side:
    """The decoder, or the model of another ``config``, in ``"jax"`` or ``"torch"``."""
    own = config(dtype)
    return (jax_side if framework == "jax" else torch_side)(own, weights(own))


def weights(config: c.Model) -> Hub:
    """Weights that decide: logits are far apart and differ from prompt to prompt."""
    shapes = {name: tuple(value.shape) for name, value in build_torch(config).state_dict().items()}
    return cast_all(perturb(shapes, seed=1), config.dtype.param)


def jax_side(config: c.Model, hub: Hub) -> Side:
    """The weights in JAX."""
    model = abstract_model(config)
    params = from_hub(hub, param_specs(model))
    model = with_params(model, {name: jnp.asarray(value) for name, value in params.items()})
    forward = jax.jit(lambda model, inputs: model(**inputs)[0])
    draw = jax.jit(jax_sampler.next_tokens, static_argnums=1)
    return Side(model, jax_engine, lambda **inputs: np.asarray(forward(model, inputs)), lambda *a: np.asarray(draw(*a)))


def torch_side(config: c.Model, hub: Hub) -> Side:
    """The weights in PyTorch."""
    model = build_torch(config)
    model.load_state_dict({name: to_tensor(value.copy()) for name, value in hub.items()})

    def forward(**inputs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return to_array(model(**{name: torch.from_numpy(value) for name, value in inputs.items()})[0])

    def draw(logits: np.ndarray, settings: c.Sampling, seed: int, step: int) -> np.ndarray:
        return to_array(torch_sampler.next_tokens(torch.from_numpy(logits), settings, seed, step))

    return Side(model, torch_engine, forward, draw)


def by_definition(
    side: Side, prompts: Any, settings: c.Sampling, max_new_tokens: int, num_tokens: int = VOCAB
) -> list[list[int]]:
    """What ``generate`` must return: every token drawn from one full forward pass over everything before it."""
    if isinstance(side.model.config, c.EncoderDecoder):
        source, segments = right_pad(prompts, MAX_SOURCE)
        rest, prompts = {"source": source, "source_segments": segments}, [[START]] * len(prompts)
    else:
        rest = {}
    rows = [list(prompt) for prompt in prompts]
    for step in range(max_new_tokens):
        tokens, segments = right_pad(rows, min(FULL_LENGTH, side.model.config.max_length))
        logits = side.forward(tokens=tokens, **(rest or {"segments": segments}))
        last = np.stack([logits[b, len(row) - 1, :num_tokens] for b, row in enumerate(rows)])
        for row, token in zip(rows, side.draw(last, settings, settings.seed, step), strict=True):
            row.append(int(token))
    return [row[len(prompt) :] for row, prompt in zip(rows, prompts, strict=True)]


def right_pad(rows: Any, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows as [B, length], aligned at their beginnings, and their segments."""
    tokens, segments = np.zeros((2, len(rows), length), np.int32)
    for b, row in enumerate(rows):
        tokens[b, : len(row)] = row
        segments[b, : len(row)] = 1
    return tokens, segments
