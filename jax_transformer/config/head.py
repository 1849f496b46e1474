"""From the last hidden states to the model's answer."""

from typing import Annotated, Literal

from pydantic import Field

from jax_transformer.config.base import Config, Probability
from jax_transformer.config.ffn import Activation
from jax_transformer.config.norm import LayerNorm, Norm


class Transform(Config):
    """``norm(act(x W + b))``, which leads to the width of the output matrix."""

    activation: Activation = "gelu_erf"
    norm: Norm = LayerNorm()
    bias: bool = True


class Head(Config):
    """Logits over the vocabulary, ``softcap * tanh(scale * (x W + b) / softcap)``."""

    kind: Literal["lm"] = "lm"
    transform: Transform | None = None
    """Of the last states, before W (ModernBERT's decoder). None: as they are."""
    tied: bool = True
    """Use the embedding table as the output matrix."""
    bias: bool = False
    scale: Annotated[float, Field(gt=0.0)] = 1.0
    """Factor on the logits (Cohere multiplies, Granite divides by its inverse, T5 multiplies by ``d_model ** -0.5``)."""
    softcap: Annotated[float, Field(gt=0.0)] | None = None
    """Logits become ``softcap * tanh(logits / softcap)`` (Gemma 2). None: as they are."""


class MlmHead(Config):
    """BERT's prediction of masked tokens: ``norm(act(x W1 + b1)) W2 + b2``, logits over the vocabulary."""

    kind: Literal["mlm"] = "mlm"
    transform: bool = True
    """False: ``x W2 + b2`` (EuroBERT); there is then no W1, activation nor norm."""
    activation: Activation = "gelu_erf"
    norm: Norm = LayerNorm()
    dense_bias: bool = True
    tied: bool = True
    """Use the embedding table as the output matrix W2."""
    bias: bool = True

    @property
    def before(self) -> Transform | None:
        """What leads to W2."""
        return Transform(activation=self.activation, norm=self.norm, bias=self.dense_bias) if self.transform else None


class ClassifierHead(Config):
    """Scores of ``num_classes`` classes for a whole sequence: one pooled state, then a linear layer."""

    kind: Literal["classifier"] = "classifier"
    num_classes: Annotated[int, Field(ge=2)]
    pool: Literal["first", "last", "mean"] = "first"
    """The state of the first token, of the last real token, or the mean over real tokens."""
    dense: Activation | None = "tanh"
    """A square layer with this activation between pooling and scores (BERT's pooler). None: no such layer."""
    dense_bias: bool = True
    norm: Norm | None = None
    """Of what the scores are computed from (ModernBERT)."""
    dropout: Probability = 0.0
    """Drop probability of what the scores are computed from."""
    bias: bool = True


EncoderHead = Annotated[MlmHead | ClassifierHead, Field(discriminator="kind")]
