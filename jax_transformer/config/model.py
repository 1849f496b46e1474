"""Whole models."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.base import Config, Positive
from jax_transformer.config.block import Block, Stack
from jax_transformer.config.embedding import Embedding
from jax_transformer.config.head import EncoderHead, Head, MlmHead
from jax_transformer.config.linear_time import why_causal
from jax_transformer.config.moe import ExpertChoice, Moe
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


class _Model(Config):
    """What every architecture has."""

    vocab_size: Positive
    d_model: Positive
    max_length: Positive
    """Longest sequence, in tokens, that the model accepts and a cache may hold."""
    dtype: Dtype = Dtype()
    init: Init = Init()


class Decoder(_Model):
    """A causal language model: embedding, stack of blocks, final norm, head."""

    kind: Literal["decoder"] = "decoder"
    embedding: Embedding = Embedding()
    stack: Stack
    final_norm: Norm | None
    head: Head = Head()

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        self.embedding.check_width(self.d_model)
        _refuse_cross_attention(self.stack, "a decoder has no encoder whose output it could read")
        _refuse_expert_choice(self.stack)
        return self


class Encoder(_Model):
    """A bidirectional model: every token sees every other of its segment. Predicts masked tokens, or a class."""

    kind: Literal["encoder"] = "encoder"
    embedding: Embedding = Embedding()
    stack: Stack
    final_norm: Norm | None
    head: EncoderHead = MlmHead()

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        self.embedding.check_width(self.d_model)
        _refuse_cross_attention(self.stack, "an encoder reads nothing but its own input")
        _refuse_causal(self.stack)
        width = self.embedding.width(self.d_model)
        if isinstance(self.head, MlmHead) and not self.head.transform and width != self.d_model:
            raise ValueError(
                f"head.transform=false, but embedding.dim={width} is not d_model={self.d_model}: nothing else leads to the "
                "width of the table; leave one of them out"
            )
        return self


class Tower(Config):
    """One half of an encoder-decoder."""

    d_model: Positive | None = None
    """Width of an encoder that is not as wide as its decoder. None: the model's ``d_model``, which is the decoder's."""
    embedding: Embedding = Embedding()
    stack: Stack
    final_norm: Norm | None


class EncoderDecoder(_Model):
    """A sequence-to-sequence model (Vaswani et al. 2017): the decoder reads the encoder's output by cross-attention."""

    kind: Literal["encoder_decoder"] = "encoder_decoder"
    max_source_length: Positive
    """Longest source sequence, in tokens; ``max_length`` is that of the target."""
    encoder: Tower
    decoder: Tower
    share_embedding: bool = True
    """One token table for both halves."""
    start_token: Annotated[int, Field(ge=0)] = 0
    """What the decoder reads before the first target token (T5: its padding)."""
    head: Head = Head()

    @property
    def source_dim(self) -> int:
        """Width of the encoder, which the decoder's cross-attention reads."""
        return self.encoder.d_model or self.d_model

    @model_validator(mode="after")
    def _check_halves(self) -> Self:
        _refuse_cross_attention(self.encoder.stack, "the encoder reads nothing but its own input", "encoder.stack")
        _refuse_causal(self.encoder.stack, "encoder.stack")
        _refuse_expert_choice(self.decoder.stack, "decoder.stack")
        blocks = self.decoder.stack.first + self.decoder.stack.pattern
        if all(block.cross_attention is None for block in blocks):
            raise ValueError(
                "decoder.stack: no block has cross_attention, so the encoder's output would reach nothing: give it to one"
            )
        for name, tower in (("encoder", self.encoder), ("decoder", self.decoder)):
            tower.embedding.check_width(tower.d_model or self.d_model, f"{name}.embedding")
            if tower.embedding.num_token_types:
                raise ValueError(
                    f"{name}.embedding.num_token_types={tower.embedding.num_token_types}: an encoder-decoder tells its two "
                    "sequences apart by their towers and takes no token types; leave it out"
                )
        if self.start_token >= self.vocab_size:
            raise ValueError(f"start_token={self.start_token} is outside the vocabulary [0, {self.vocab_size})")
        if self.decoder.d_model not in (None, self.d_model):
            raise ValueError(
                f"decoder.d_model={self.decoder.d_model} is not d_model={self.d_model}, which is the decoder's width: leave it "
                "out, and set d_model"
            )
        widths = [self.encoder.embedding.width(self.source_dim), self.decoder.embedding.width(self.d_model)]
        if self.share_embedding and widths[0] != widths[1]:
            raise ValueError(
                f"share_embedding: the encoder's table is {widths[0]} wide and the decoder's {widths[1]}, by their "
                "embedding.dim or d_model: set one embedding.dim for both, or share_embedding: false"
            )
        return self


Model = Annotated[Decoder | Encoder | EncoderDecoder, Field(discriminator="kind")]


def _refuse_cross_attention(stack: Stack, reason: str, path: str = "stack") -> None:
    for name, block in _named_blocks(stack, path):
        if block.cross_attention is not None:
            raise ValueError(f"{name}.cross_attention: {reason}; leave it out")


def _refuse_causal(stack: Stack, path: str = "stack") -> None:
    for name, block in _named_blocks(stack, path):
        if reason := why_causal(block.attention):
            raise ValueError(f"{name}.attention: {reason}")


def _refuse_expert_choice(stack: Stack, path: str = "stack") -> None:
    for name, block in _named_blocks(stack, path):
        if isinstance(block.ffn, Moe) and isinstance(block.ffn.routing, ExpertChoice) and not block.ffn.routing.acausal:
            raise ValueError(
                f"{name}.ffn.routing: with expert_choice a token's experts depend on later tokens, which a causal model "
                "may not see: its training loss is too low, and decoding with a cache computes something else. Use another "
                "routing, or acknowledge it by acausal: true"
            )


def _named_blocks(stack: Stack, path: str) -> list[tuple[str, Block]]:
    """The blocks as they are written, each with its place."""
    groups = {"first": stack.first, "pattern": stack.pattern}
    return [(f"{path}.{name}[{index}]", block) for name, group in groups.items() for index, block in enumerate(group)]
