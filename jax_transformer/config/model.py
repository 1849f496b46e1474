"""Whole models."""

from typing import Annotated, Literal

from pydantic import Field

from jax_transformer.config.base import Config, Positive, Probability
from jax_transformer.config.block import Stack
from jax_transformer.config.norm import Norm

DtypeName = Literal["float64", "float32", "bfloat16", "float16"]


class Dtype(Config):
    """Where each precision applies. Norms, softmax and the loss always compute in float32 at least."""

    param: DtypeName = "float32"
    """Stored parameters, and so gradients and optimizer moments."""
    compute: DtypeName = "float32"
    """Activations and matmul inputs."""
    logits: DtypeName = "float32"
    """Output of the head."""


class Init(Config):
    """Initial values: weights are normal with ``std``, norms are one, biases are zero."""

    std: Annotated[float, Field(gt=0.0)] = 0.02
    depth_scaled: bool = True
    """Divide the std of each residual branch's last projection by ``sqrt(2 * num_layers)`` (GPT-2)."""


class Head(Config):
    """The map from the last hidden state to logits over the vocabulary."""

    tied: bool = True
    """Use the embedding table as the output matrix."""
    bias: bool = False


class Decoder(Config):
    """A causal language model: embedding, stack of blocks, final norm, head."""

    kind: Literal["decoder"] = "decoder"
    vocab_size: Positive
    d_model: Positive
    max_length: Positive
    """Longest sequence, in tokens, that the model accepts and a cache may hold."""
    stack: Stack
    final_norm: Norm
    head: Head = Head()
    embed_dropout: Probability = 0.0
    dtype: Dtype = Dtype()
    init: Init = Init()


Model = Decoder
"""Every architecture. The next architecture turns this into a union discriminated by ``kind``."""
