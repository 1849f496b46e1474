"""A residual block and the stack that repeats it over depth."""

from typing import Annotated, Literal

from pydantic import Field

from jax_transformer.config.attention import Attention
from jax_transformer.config.base import Config, Positive, Probability, type_of_sequence
from jax_transformer.config.ffn import Ffn
from jax_transformer.config.norm import Norm

Remat = Literal["none", "full", "dots", "dots_no_batch"]
"""What the backward pass recomputes: nothing; all but the block inputs; all but matmuls; all but weight matmuls."""


class Block(Config):
    """One layer: ``x + f(norm(x))`` for the attention, then for the feed-forward network."""

    attention: Attention
    ffn: Ffn
    norm: Norm
    placement: Literal["pre"] = "pre"
    dropout: Probability = 0.0
    """Drop probability of each residual branch's output."""


class Stack(Config):
    """``num_layers`` blocks that repeat ``pattern``: layer ``i`` is ``pattern[i % len(pattern)]``."""

    pattern: Annotated[tuple[Block, ...], type_of_sequence, Field(min_length=1)]
    num_layers: Positive
    drop_path: Probability = 0.0
    """Probability of dropping a whole residual branch for one sample (https://arxiv.org/abs/1603.09382)."""
    drop_path_schedule: Literal["constant", "linear"] = "linear"
    """``linear``: layer ``i`` drops with ``drop_path * i / (num_layers - 1)``."""
    remat: Remat = "none"
    unroll: bool = False
    """Execute the layers one by one rather than as one scan: the same weights and numbers, a faster step for tiny
    models on CPU, and a compile time that grows with depth."""

    def drop_path_rates(self) -> tuple[float, ...]:
        """Drop-path probability of each layer, in order."""
        if self.drop_path_schedule == "constant":
            return (self.drop_path,) * self.num_layers
        last = max(self.num_layers - 1, 1)
        return tuple(self.drop_path * layer / last for layer in range(self.num_layers))
