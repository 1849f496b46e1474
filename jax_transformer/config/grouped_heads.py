"""Heads of queries that share heads of keys and values."""

from typing import Self

from pydantic import model_validator

from jax_transformer.config.base import Config, Positive


class GroupedHeads(Config):
    """What every mixer with query heads over key/value heads has in common."""

    num_heads: Positive
    num_kv_heads: Positive | None = None
    """Key/value heads; query head ``n`` reads key/value head ``n // (num_heads / num_kv_heads)``. None: ``num_heads``."""
    head_dim: Positive
    """Dimensions of a head: of queries and keys, and of values that have no width of their own."""
    qkv_bias: bool = False
    o_bias: bool = False

    @property
    def kv_heads(self) -> int:
        """``num_kv_heads`` with its default filled in."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} is not a multiple of num_kv_heads={self.kv_heads}: every key/value head "
                f"serves the same number of query heads; num_kv_heads must divide num_heads"
            )
        return self
