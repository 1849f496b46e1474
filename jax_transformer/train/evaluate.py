"""Loss and perplexity on held-out text."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax

from jax_transformer.config.errors import NonFiniteError
from jax_transformer.nn.params import Params
from jax_transformer.train.step import Batch


class Evaluation(NamedTuple):
    """Mean loss per token in nats, and how many tokens it is the mean of."""

    loss: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """``exp(loss)``."""
        return math.exp(min(self.loss, 700.0))


def evaluate(
    eval_step: Callable[[Params, Batch], tuple[jax.Array, jax.Array]],
    params: Params,
    batches: Iterable[Batch],
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """Token-weighted mean over ``batches``; None if ``should_stop`` turned true before the end.

    Raises NonFiniteError if the mean is not a finite number.
    """
    results = []
    for batch in batches:
        if should_stop():
            return None
        results.append(eval_step(params, batch))
    total, tokens = (sum(float(x) for x in column) for column in zip(*results, strict=True))
    loss = total / max(tokens, 1.0)
    if not math.isfinite(loss):
        raise NonFiniteError(f"validation loss is {loss} over {int(tokens)} tokens: the parameters produce no finite logits")
    return Evaluation(loss, int(tokens))
