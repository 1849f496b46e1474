"""Drawing the next token of every row."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jax_transformer.config import Sampling
from torch_reference.ops.sampling import filter_logits


def next_tokens(logits: Float[Tensor, "B V"], settings: Sampling, seed: int, step: int) -> Int[Tensor, "B"]:
    """One token per row: the most likely one at temperature 0 (the lowest id of equals), else a draw from the filtered odds.

    Row ``b`` draws with a generator of its own, seeded by ``(seed, b, step)``: what a row gets depends on its index and on
    nothing else of the batch. The odds are those of ``jax_transformer``, the random numbers are not.
    """
    if settings.temperature == 0.0:
        return logits.argmax(dim=-1)
    odds = filter_logits(logits, settings.temperature, settings.top_k, settings.top_p).softmax(dim=-1)
    return torch.cat([_draw(row, seed, b, step) for b, row in enumerate(odds)])


def _draw(odds: Float[Tensor, "V"], seed: int, row: int, step: int) -> Int[Tensor, "1"]:
    # torch keeps 32 bits of a seed: SeedSequence hashes all three numbers into them.
    hashed = int(np.random.SeedSequence((seed, row, step)).generate_state(1)[0])
    return torch.multinomial(odds, 1, generator=torch.Generator(odds.device).manual_seed(hashed))
