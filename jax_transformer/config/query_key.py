"""What happens to queries and keys between their projections and the scores."""

from typing import Annotated, Literal

from pydantic import Field

from jax_transformer.config.base import Config, Positive
from jax_transformer.config.norm import Norm


class QkNorm(Config):
    """Normalised queries and keys (https://arxiv.org/abs/2302.05442): scores cannot grow with the weights."""

    norm: Norm
    scope: Literal["head", "own_heads", "full"] = "head"
    """``head``: over each head, one weight for all heads (Qwen3, Gemma 3). ``own_heads``: over each head, a weight per head
    (Cohere, StableLM). ``full``: over all heads together, before they are told apart (OLMo 2)."""
    place: Literal["before_rope", "after_rope"] = "before_rope"


class QueryTemperature(Config):
    """Queries grow with their position, ``q * (1 + beta * ln(1 + floor((position + offset) / original_length)))``: attention
    stays sharp over long contexts (Llama 4, Ministral 3)."""

    beta: Annotated[float, Field(gt=0.0)]
    original_length: Positive
    offset: Annotated[int, Field(ge=0)] = 0
    """1 in Llama 4, 0 in Ministral 3."""
