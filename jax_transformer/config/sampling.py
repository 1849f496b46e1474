"""How the next token is drawn."""

from typing import Annotated

from pydantic import Field

from jax_transformer.config.base import Config, Positive


class Sampling(Config):
    """Temperature, then top-k, then top-p (nucleus, https://arxiv.org/abs/1904.09751); temperature 0 is greedy."""

    temperature: Annotated[float, Field(ge=0.0)] = 1.0
    """Divides the logits; 0 takes the most likely token."""
    top_k: Positive | None = None
    """Keep this many of the most likely tokens. None: all."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Keep the fewest most likely tokens whose probabilities reach this sum. None: all."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
