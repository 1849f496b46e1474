"""From token ids to the first hidden states."""

from typing import Annotated, Literal

from pydantic import Field

from jax_transformer.config.base import Config, Positive, Probability
from jax_transformer.config.norm import Norm
from jax_transformer.config.position import AbsolutePosition, Sinusoidal


class Embedding(Config):
    """``project(dropout(norm(scale * table[token] + positions + types[token_type])))``; all but the table is optional."""

    dim: Positive | None = None
    """Width of the table. Below ``d_model`` it is factorised (ALBERT, ELECTRA): a linear layer leads to ``d_model``. None:
    ``d_model``."""
    scale: Annotated[float, Field(gt=0.0)] | Literal["sqrt_dim"] = 1.0
    """Factor on the looked-up rows, rounded to the compute dtype; ``sqrt_dim`` is the root of the table's width (Gemma)."""
    position: AbsolutePosition | None = None
    num_token_types: Annotated[int, Field(ge=0)] = 0
    """Rows of a second table, looked up by ``token_types`` (BERT's segments A and B). 0: no such table."""
    norm: Norm | None = None
    projection_bias: bool = False
    """Bias of the linear layer of a factorised table."""
    dropout: Probability = 0.0

    def width(self, d_model: int) -> int:
        """Width of the table in a model of width ``d_model``."""
        return d_model if self.dim is None else self.dim

    def factor(self, d_model: int) -> float:
        """``scale`` as a number."""
        return self.width(d_model) ** 0.5 if self.scale == "sqrt_dim" else self.scale

    def check_width(self, d_model: int, path: str = "embedding") -> None:
        """Raises ValueError where the width of the table does not hold the pairs of sinusoidal positions."""
        position, width = self.position, self.width(d_model)
        if not isinstance(position, Sinusoidal):
            return
        if width % 2:
            raise ValueError(
                f"{path}.position: sinusoidal makes pairs of a sine and a cosine, but the embedding's width is {width}; use an "
                "even width or learned positions"
            )
        if position.denominator == "half_minus_one" and width < 4:
            raise ValueError(
                f"{path}.position.denominator: half_minus_one divides by width / 2 - 1, but the embedding's width is {width}; "
                "use a width of at least 4 or denominator: half"
            )
