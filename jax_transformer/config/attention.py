"""Token mixers: what a layer does across positions."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.base import Positive, Probability
from jax_transformer.config.grouped_heads import GroupedHeads
from jax_transformer.config.implementation import Implemented
from jax_transformer.config.linear_time import GatedDelta, Linear
from jax_transformer.config.norm import Norm, RMSNorm
from jax_transformer.config.position import NoPosition, Position, Rope
from jax_transformer.config.query_key import QkNorm, QueryTemperature

Scale = Annotated[float, Field(gt=0.0)]


class _Heads(GroupedHeads, Implemented):
    """What self-attention and cross-attention have in common."""

    scale: Scale | None = None
    """Factor on the scores. None: ``head_dim ** -0.5``."""
    softcap: Annotated[float, Field(gt=0.0)] | None = None
    """Scores become ``softcap * tanh(scores / softcap)``, after the scale and before biases and mask (Gemma 2)."""
    sink_logits: bool = False
    """One learned logit per head that takes part in the softmax and has no value: attention may go nowhere (gpt-oss)."""
    output_gate: Literal["element", "head"] | None = None
    """Multiplies each head's output, before the last projection, by ``sigmoid(x W)``: a gate per dimension (Qwen3-Next) or per
    head."""
    qk_norm: QkNorm | None = None
    dropout: Probability = 0.0
    """Drop probability of the attention probabilities."""

    @property
    def score_scale(self) -> float:
        """``scale`` with its default filled in."""
        return self.head_dim**-0.5 if self.scale is None else self.scale


class _Windowed(Implemented):
    """Who sees whom beyond the architecture's own mask."""

    window: Positive | None = None
    """Sliding window. Causal: a token sees this many tokens, itself included. Bidirectional: those at most this far away.
    None: no limit."""
    sink_tokens: Annotated[int, Field(ge=0)] = 0
    """First tokens of a sequence that every later one sees, beyond the window (https://arxiv.org/abs/2309.17453)."""
    chunk_size: Positive | None = None
    """Positions of a chunk, counted from the first of the sequence: a token sees only its own chunk (Llama 4). In the place of
    a window. None: no chunks."""

    @model_validator(mode="after")
    def _check_sight(self) -> Self:
        if self.chunk_size is not None and (self.window is not None or self.sink_tokens):
            raise ValueError(
                f"chunk_size={self.chunk_size} beside window={self.window} and sink_tokens={self.sink_tokens}: a token sees "
                "its chunk or a window; keep one, and sink_tokens with a window only"
            )
        if self.sink_tokens and self.window is None:
            raise ValueError(
                f"sink_tokens={self.sink_tokens} without a window: every token is visible already; set window or leave "
                "sink_tokens out"
            )
        return self


class Softmax(_Heads, _Windowed):
    """``softmax(q k^T * scale + mask) v`` (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

    ``num_kv_heads`` selects multi-head (equal to ``num_heads``), grouped-query (a divisor of it,
    https://arxiv.org/abs/2305.13245) or multi-query (1) attention. ``num_heads * head_dim`` need not
    equal the model width.
    """

    kind: Literal["softmax"] = "softmax"
    clip_qkv: Annotated[float, Field(gt=0.0)] | None = None
    """Clamps queries, keys and values to ``[-clip_qkv, clip_qkv]`` right after their projections (MPT, OLMo)."""
    query_temperature: QueryTemperature | None = None
    position: Position = Rope()

    @model_validator(mode="after")
    def _check_rotary_dim(self) -> Self:
        if isinstance(self.position, Rope):
            self.position.check(self.head_dim)
        return self

    @model_validator(mode="after")
    def _check_rotation_of_norm(self) -> Self:
        if self.qk_norm is not None and self.qk_norm.place == "after_rope" and not isinstance(self.position, Rope):
            raise ValueError(f"qk_norm.place=after_rope, but position is {self.position.kind}: use before_rope")
        return self

    def _check_kernel(self, form: str) -> None:
        kind = self.position.kind
        if kind not in ("rope", "none"):
            raise ValueError(
                f"implementation={form} cannot add the bias of position={kind}: use implementation: blockwise, or rope or none"
            )
        if form == "cudnn" and (self.head_dim % 8 or self.head_dim > 256):
            raise ValueError(
                f"implementation=cudnn with head_dim={self.head_dim}: it wants a multiple of 8 up to 256 (128 before Hopper); "
                "change head_dim, or use implementation: blockwise"
            )


class CrossAttention(_Heads):
    """Decoder queries over the encoder's output, which supplies keys and values; bidirectional and without positions."""

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if self.qk_norm is not None and self.qk_norm.place == "after_rope":
            raise ValueError("qk_norm.place=after_rope, but cross-attention has no positions: use before_rope")
        return self


class Complex(_Windowed):
    """Attention over complex queries and keys, ``softmax(Re(q conj(k)) * scale + mask) v``, with real values.

    Real and imaginary parts have projections of their own. Position ``m`` multiplies dimension ``i`` of both by
    ``exp(1j m rope_base ** (-2 (i mod (head_dim / 2)) / head_dim))``.
    """

    kind: Literal["complex"] = "complex"
    num_heads: Positive
    head_dim: Positive
    """Complex dimensions of a head; queries and keys are twice as many real numbers."""
    qkv_bias: bool = False
    o_bias: bool = False
    scale: Scale | None = None
    """Factor on the scores. None: ``head_dim ** -0.5``."""
    rope_base: Annotated[float, Field(gt=1.0)] | None = 10_000.0
    """None: no rotation."""
    dropout: Probability = 0.0
    """Drop probability of the attention probabilities."""

    @property
    def score_scale(self) -> float:
        """``scale`` with its default filled in."""
        return self.head_dim**-0.5 if self.scale is None else self.scale

    @model_validator(mode="after")
    def _check_rotary_dim(self) -> Self:
        if self.rope_base is not None and self.head_dim % 2:
            raise ValueError(
                f"head_dim={self.head_dim} is odd: its two halves turn at the same frequencies; use an even head_dim, or "
                "rope_base: null"
            )
        return self


class Mla(_Windowed):
    """Multi-head latent attention (DeepSeek-V2, https://arxiv.org/abs/2405.04434).

    Keys and values are expanded from one normalised latent of ``kv_rank`` numbers per token; a rotated key of ``rope_dim``, the
    same for every head, carries the position. The cache holds only these two.
    """

    kind: Literal["mla"] = "mla"
    num_heads: Positive
    q_rank: Positive | None = None
    """Width of the normalised latent that queries are expanded from. None: queries are projected directly."""
    kv_rank: Positive
    nope_dim: Positive
    """Query and key dimensions of a head that do not rotate."""
    rope_dim: Positive
    """Query and key dimensions of a head that rotate."""
    v_dim: Positive
    """Value dimensions of a head."""
    latent_norm: Norm = RMSNorm()
    down_bias: bool = False
    """Biases of the projections down to the latents."""
    o_bias: bool = False
    scale: Scale | None = None
    """Factor on the scores. None: ``(nope_dim + rope_dim) ** -0.5``."""
    dropout: Probability = 0.0
    """Drop probability of the attention probabilities."""
    position: Annotated[Rope | NoPosition, Field(discriminator="kind")] = Rope(layout="interleaved")

    @property
    def score_scale(self) -> float:
        """``scale`` with its default filled in."""
        return (self.nope_dim + self.rope_dim) ** -0.5 if self.scale is None else self.scale

    @model_validator(mode="after")
    def _check_rotary_dim(self) -> Self:
        if isinstance(self.position, Rope):
            self.position.check(self.rope_dim)
        return self


Attention = Annotated[Softmax | Complex | Mla | Linear | GatedDelta, Field(discriminator="kind")]
