"""Loss, perplexity and accuracy on what was held out."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax

from jax_transformer.config.errors import NonFiniteError
from jax_transformer.nn.params import Params
from jax_transformer.train.objective import Batch


class Evaluation(NamedTuple):
    """Mean loss per token (or per classified text) in nats, and how many of them it is the mean of."""

    loss: float
    tokens: int
    accuracy: float | None = None
    """Fraction of texts whose label has the highest score; None where no text is classified."""

    @property
    def perplexity(self) -> float:
        """``exp(loss)``."""
        return math.exp(min(self.loss, 700.0))

    def metrics(self) -> dict[str, float]:
        """The numbers by their names in ``metrics.jsonl``."""
        if self.accuracy is None:
            return {"validation_loss": self.loss, "perplexity": self.perplexity}
        return {"validation_loss": self.loss, "validation_accuracy": self.accuracy}


def evaluate(
    eval_step: Callable[[Params, Batch], dict[str, jax.Array]],
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
    sums = {name: sum(float(result[name]) for result in results) for name in results[0]}
    tokens = sums["tokens"]
    loss = sums["loss"] / max(tokens, 1.0)
    if not math.isfinite(loss):
        raise NonFiniteError(f"validation loss is {loss} over {int(tokens)} tokens: the parameters produce no finite logits")
    return Evaluation(loss, int(tokens), sums["correct"] / max(tokens, 1.0) if "correct" in sums else None)
