"""How attention knows where a token is."""

from typing import Annotated, Literal

from pydantic import Field

from jax_transformer.config.base import Config


class Rope(Config):
    """Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864).

    Rotates dimension pairs of queries and keys by ``position * base ** (-2 i / rotary_dim)``.
    """

    kind: Literal["rope"] = "rope"
    base: Annotated[float, Field(gt=1.0)] = 10_000.0
    """The theta of the paper; the slowest pair turns once in about ``2 pi base`` positions."""
    fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of each head that rotates: ``rotary_dim = int(head_dim * fraction)``; the rest passes through."""
    layout: Literal["half", "interleaved"] = "half"
    """Which dimensions form a pair: ``(i, i + rotary_dim / 2)`` or ``(2 i, 2 i + 1)``."""

    def rotary_dim(self, head_dim: int) -> int:
        """Number of leading head dimensions that rotate."""
        return int(head_dim * self.fraction)


class NoPosition(Config):
    """No position information beyond the causal mask (NoPE, https://arxiv.org/abs/2305.19466)."""

    kind: Literal["none"] = "none"


Position = Annotated[Rope | NoPosition, Field(discriminator="kind")]
