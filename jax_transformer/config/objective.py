"""What a model is trained to predict."""

from bisect import bisect_right
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.base import Config

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class NextToken(Config):
    """A decoder predicts each token from those before it."""

    kind: Literal["next_token"] = "next_token"
    loss_on: Literal["all", "target"] = "all"
    """``target``: of a pair, only the target and its end count; the source is read but not learned."""


class MaskedLm(Config):
    """An encoder restores tokens that were hidden from it (BERT, https://arxiv.org/abs/1810.04805).

    The mask is id ``model.vocab_size - 1``, above the tokenizer's. New tokens are drawn each time a row is read.
    """

    kind: Literal["masked_lm"] = "masked_lm"
    probability: Annotated[float, Field(gt=0.0, le=1.0)] = 0.15
    """Of each token to be one that is predicted."""
    mask: Fraction = 0.8
    """Fraction of those that the mask replaces."""
    random: Fraction = 0.1
    """Fraction of those that a random token replaces; the rest stays as it is."""

    @model_validator(mode="after")
    def _check_fractions(self) -> Self:
        if self.mask + self.random > 1.0:
            raise ValueError(f"mask={self.mask} + random={self.random} is above 1: they are fractions of the same tokens")
        return self


class Classification(Config):
    """An encoder with a classifier head names the label of a text."""

    kind: Literal["classification"] = "classification"


class SpanCorruption(Config):
    """An encoder-decoder restores stretches of text that were cut out (T5, https://arxiv.org/abs/1910.10683).

    Of n tokens ``round(n * noise_density)`` are cut out in stretches of ``mean_span_length`` on average. The source has a
    sentinel, id ``model.vocab_size - 1 - i``, in place of stretch i; the target has each sentinel and the stretch it stands
    for, and one more sentinel at its end.
    """

    kind: Literal["span_corruption"] = "span_corruption"
    noise_density: Annotated[float, Field(gt=0.0, le=0.9)] = 0.15
    mean_span_length: Annotated[float, Field(ge=1.0)] = 3.0

    def counts(self, length: int) -> tuple[int, int]:
        """How many of ``length`` tokens are cut out, and in how many stretches; at least one token stays before each."""
        noise = min(max(round(length * self.noise_density), 1), max(length - 1, 0))
        return noise, min(max(round(noise / self.mean_span_length), 1), noise, length - noise)

    def text_length(self, source_length: int) -> int:
        """The most tokens of text whose source fits in ``source_length``."""
        longest = int((source_length + 1) / (1.0 - self.noise_density)) + 1
        return bisect_right(range(longest + 1), source_length, key=self._source_length) - 1

    def target_length(self, source_length: int) -> int:
        """Tokens of the target of that much text: the stretches, their sentinels, and the one at the end."""
        return sum(self.counts(self.text_length(source_length))) + 1

    def _source_length(self, length: int) -> int:
        noise, spans = self.counts(length)
        return length - noise + spans


class SequenceToSequence(Config):
    """An encoder-decoder writes the target of a pair after reading its source."""

    kind: Literal["seq2seq"] = "seq2seq"


Objective = Annotated[NextToken | MaskedLm | Classification | SpanCorruption | SequenceToSequence, Field(discriminator="kind")]
