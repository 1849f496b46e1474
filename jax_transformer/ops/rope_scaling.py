"""How rotary frequencies change for sequences longer than those of the original training.

Those of ``linear``, ``ntk_base``, ``yarn`` and ``llama3`` are numbers, computed on the host in float64. ``dynamic_ntk`` and
``longrope`` depend on the length of the sequence, which only the device knows.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int


def linear(frequencies: np.ndarray, factor: float) -> np.ndarray:
    """Position interpolation (https://arxiv.org/abs/2306.15595): ``frequency / factor``, in radians per position."""
    return frequencies / factor


def ntk_base(base: float, rotary_dim: int, factor: float) -> float:
    """NTK-aware base, ``base * factor ** (d / (d - 2))`` for ``d`` = ``rotary_dim`` above 2: the slowest pair turns ``factor``
    times slower, the fastest as before."""
    return base * factor ** (rotary_dim / (rotary_dim - 2))


def yarn(
    frequencies: np.ndarray, base: float, factor: float, original_length: int, betas: tuple[float, float], truncate: bool
) -> np.ndarray:
    """YaRN (https://arxiv.org/abs/2309.00071): divide the slow pairs by ``factor``, keep the fast ones, blend between.

    ``betas`` are the turns within ``original_length`` that bound the blend, the larger first. A pair turns ``beta`` times at
    index ``d ln(original_length / (2 pi beta)) / (2 ln base)`` of ``d / 2``; ``truncate`` rounds the two indices outwards.
    """
    dim = 2 * len(frequencies)
    low, high = (dim * math.log(original_length / (2 * math.pi * beta)) / (2 * math.log(base)) for beta in betas)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = (min(max(index, 0), dim - 1) for index in (low, high))
    width = high - low or 1e-3  # one index for both bounds: a step, as transformers has it
    slow = np.clip((np.arange(dim // 2) - low) / width, 0.0, 1.0)
    return frequencies / factor * slow + frequencies * (1.0 - slow)


def llama3(frequencies: np.ndarray, factor: float, original_length: int, bounds: tuple[float, float]) -> np.ndarray:
    """Llama 3.1's (https://arxiv.org/abs/2407.21783): by the turns ``original_length / wavelength``.

    ``bounds`` are turns, the lower first: pairs below them are divided by ``factor``, pairs above are kept, and between the
    blend is linear in the turns. Equal bounds leave no room for it.
    """
    low, high = bounds
    turns = original_length * frequencies / (2 * math.pi)
    fast = np.clip((turns - low) / (high - low), 0.0, 1.0) if high > low else np.where(turns >= low, 1.0, 0.0)
    return frequencies / factor * (1.0 - fast) + frequencies * fast


def dynamic_ntk(
    frequencies: np.ndarray, lengths: Int[Array, "#B T"], factor: float, original_length: int, dtype: DTypeLike
) -> Float[Array, "#B T P"]:
    """NTK-aware frequencies of each token by the length ``L`` of its sequence, those given up to ``L0 = original_length``.

    ``ntk_base`` with the factor ``r = factor L / L0 - (factor - 1)``, written as ``frequency_i * r ** (-2 i / (d - 2))`` and
    ``r = 1 + factor max(L - L0, 0) / L0`` so that nothing cancels; ``d`` = ``2 * len(frequencies)`` must be above 2.
    """
    ratio = 1.0 + factor * jnp.maximum(lengths - original_length, 0).astype(dtype) / original_length
    exponents = -np.arange(len(frequencies), dtype=np.float64) / (len(frequencies) - 1)
    return jnp.asarray(frequencies, dtype)[None, None, :] * ratio[..., None] ** jnp.asarray(exponents, dtype)[None, None, :]


def longrope(
    frequencies: np.ndarray,
    lengths: Int[Array, "#B T"],
    original_length: int,
    factors: tuple[tuple[float, ...], tuple[float, ...]],
    dtype: DTypeLike,
) -> Float[Array, "#B T P"]:
    """LongRoPE (https://arxiv.org/abs/2402.13753): each pair's frequency over a factor of its own, for each token.

    ``factors`` are those of sequences of up to ``original_length`` tokens, then those of longer ones.
    """
    short, long = (jnp.asarray(frequencies / np.asarray(each), dtype)[None, None, :] for each in factors)
    return jnp.where((lengths > original_length)[..., None], long, short)
