"""A residual block and the stack that repeats it over depth."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.attention import Attention, CrossAttention, Softmax
from jax_transformer.config.base import Config, Positive, Probability, type_of_sequence
from jax_transformer.config.moe import Ffn, Moe
from jax_transformer.config.norm import Norm
from jax_transformer.config.position import SharedBias, T5Bias

Remat = Literal["none", "full", "dots", "dots_no_batch"]
"""What the backward pass recomputes: nothing; all but the block inputs; all but matmuls; all but weight matmuls."""


class Block(Config):
    """One layer: attention and a feed-forward network, each on a residual branch.

    Each branch is ``norm_sum(x + residual_scale * norm_out(f(norm_in(x))))``; ``placement`` says which of them exist.
    """

    attention: Attention
    cross_attention: CrossAttention | None = None
    """Between the two, in the decoder of an encoder-decoder: attention over the encoder's output."""
    ffn: Ffn
    norm: Norm
    placement: Literal["pre", "post", "sandwich", "output"] = "pre"
    """``pre``: ``x + f(N(x))``. ``post``: ``N(x + f(x))`` (BERT). ``sandwich``: ``x + N2(f(N1(x)))`` (Gemma 2). ``output``:
    ``x + N(f(x))`` (OLMo 2)."""
    attention_norm: bool = True
    """False: no norm before the attention, ``x + f(x)``; the other branches keep theirs (ModernBERT's first layer, which reads
    a normalised embedding)."""
    parallel: Literal["shared", "separate"] | None = None
    """``x + attention(N1(x)) + ffn(N2(x))``, with one norm for both (GPT-J, Cohere) or one each (GPT-NeoX). None: one after the
    other."""
    residual_scale: Annotated[float, Field(gt=0.0)] = 1.0
    """Factor on each branch (Granite)."""
    dropout: Probability = 0.0
    """Drop probability of each residual branch's output."""

    @model_validator(mode="after")
    def _check_attention_norm(self) -> Self:
        if self.attention_norm:
            return self
        if self.placement not in ("pre", "sandwich"):
            raise ValueError(
                f"attention_norm=false with placement={self.placement}, where no norm stands before the attention: leave "
                "attention_norm out, or use placement: pre or sandwich"
            )
        if self.parallel == "shared":
            raise ValueError(
                "attention_norm=false with parallel=shared leaves no norm to share with the feed-forward network: use "
                "parallel: separate, or leave attention_norm out"
            )
        return self

    @model_validator(mode="after")
    def _check_parallel(self) -> Self:
        if self.parallel is not None and self.placement != "pre":
            raise ValueError(
                f"parallel={self.parallel} with placement={self.placement} has no meaning: parallel branches read one "
                "normalised input; use placement: pre, or leave parallel out"
            )
        if self.parallel is not None and self.cross_attention is not None:
            raise ValueError(
                f"parallel={self.parallel} with cross_attention has no meaning: cross-attention reads the attention's result; "
                "leave one of them out"
            )
        return self


class Stack(Config):
    """``num_layers`` blocks: those of ``first``, then ``pattern`` over and over, cut off where the layers end."""

    pattern: Annotated[tuple[Block, ...], type_of_sequence, Field(min_length=1)]
    num_layers: Positive
    first: Annotated[tuple[Block, ...], type_of_sequence] = ()
    """Layers before the pattern, for example dense ones before sparse ones."""
    hybrid_ratio: Positive | None = None
    """Short form: a pattern of two blocks stands for ``hybrid_ratio`` of the first, then one of the second."""
    shared_bias: T5Bias | None = None
    """The position bias of every layer with ``position: {kind: shared_bias}``."""
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

    @property
    def period(self) -> tuple[Block, ...]:
        """The blocks that repeat: ``pattern`` with ``hybrid_ratio`` written out."""
        if self.hybrid_ratio is None:
            return self.pattern
        return (self.pattern[0],) * self.hybrid_ratio + (self.pattern[1],)

    @property
    def layers(self) -> tuple[Block, ...]:
        """The block of each layer, in order."""
        rest = self.num_layers - len(self.first)
        return self.first + tuple(self.period[i % len(self.period)] for i in range(rest))

    @property
    def experts(self) -> dict[int, Moe]:
        """The mixtures of experts by the number of their layer."""
        return {layer: block.ffn for layer, block in enumerate(self.layers) if isinstance(block.ffn, Moe)}

    @property
    def shared_bias_heads(self) -> int:
        """Heads of the shared bias: those of the layers that use it."""
        return _shared_bias_heads(self.first + self.pattern)[0]

    @model_validator(mode="after")
    def _check_depth(self) -> Self:
        if self.hybrid_ratio is not None and len(self.pattern) != 2:
            raise ValueError(
                f"hybrid_ratio={self.hybrid_ratio} mixes two kinds of block, but pattern has {len(self.pattern)}: give two, or "
                "write the pattern out"
            )
        if self.num_layers <= len(self.first):
            raise ValueError(
                f"num_layers={self.num_layers} counts all layers, but first has {len(self.first)} already: none is left for "
                "the pattern"
            )
        return self

    @model_validator(mode="after")
    def _check_shared_bias(self) -> Self:
        heads = _shared_bias_heads(self.first + self.pattern)
        if heads and self.shared_bias is None:
            raise ValueError("a layer has position: {kind: shared_bias}, but there is none: set stack.shared_bias")
        if not heads and self.shared_bias is not None:
            raise ValueError(
                "shared_bias is used by no layer: give an attention position: {kind: shared_bias}, or leave it out"
            )
        if len(set(heads)) > 1:
            raise ValueError(f"shared_bias has one number per head, but the layers that use it have {sorted(set(heads))} heads")
        return self


def _shared_bias_heads(blocks: tuple[Block, ...]) -> list[int]:
    attentions = [block.attention for block in blocks if isinstance(block.attention, Softmax)]
    return [attention.num_heads for attention in attentions if isinstance(attention.position, SharedBias)]
