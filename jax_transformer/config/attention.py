"""Token mixers: what a layer does across positions."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.base import Config, Positive, Probability
from jax_transformer.config.position import Position, Rope


class Softmax(Config):
    """``softmax(q k^T * scale + mask) v`` (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

    ``num_kv_heads`` selects multi-head (equal to ``num_heads``), grouped-query (a divisor of it,
    https://arxiv.org/abs/2305.13245) or multi-query (1) attention. ``num_heads * head_dim`` need not
    equal the model width.
    """

    kind: Literal["softmax"] = "softmax"
    num_heads: Positive
    num_kv_heads: Positive | None = None
    """Key/value heads; query head ``n`` reads key/value head ``n // (num_heads / num_kv_heads)``. None: ``num_heads``."""
    head_dim: Positive
    qkv_bias: bool = False
    o_bias: bool = False
    scale: Annotated[float, Field(gt=0.0)] | None = None
    """Factor on the scores. None: ``head_dim ** -0.5``."""
    window: Positive | None = None
    """Sliding window: a token sees this many tokens, itself included. None: everything before it."""
    dropout: Probability = 0.0
    """Drop probability of the attention probabilities."""
    position: Position = Rope()

    @property
    def kv_heads(self) -> int:
        """``num_kv_heads`` with its default filled in."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def score_scale(self) -> float:
        """``scale`` with its default filled in."""
        return self.head_dim**-0.5 if self.scale is None else self.scale

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} is not a multiple of num_kv_heads={self.kv_heads}: every key/value head "
                f"serves the same number of query heads; num_kv_heads must divide num_heads"
            )
        return self

    @model_validator(mode="after")
    def _check_rotary_dim(self) -> Self:
        if isinstance(self.position, Rope):
            rotary_dim = self.position.rotary_dim(self.head_dim)
            if rotary_dim % 2 or rotary_dim == 0:
                raise ValueError(
                    f"position: rope rotates pairs, but head_dim={self.head_dim} * fraction={self.position.fraction} gives "
                    f"rotary_dim={rotary_dim}; it must be even and at least 2: change head_dim or position.fraction"
                )
        return self


Attention = Softmax
"""Every attention kind. The next kind turns this into a union discriminated by ``kind``."""
