"""Token mixers whose time grows linearly with the text and whose memory, while decoding, does not grow at all."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.base import Config, Positive
from jax_transformer.config.grouped_heads import GroupedHeads
from jax_transformer.config.norm import Epsilon, RMSNorm

FEW = 8
"""Tokens up to which ``auto`` goes token by token: decoding, not reading."""


class Linear(GroupedHeads):
    """``o_t = sum_s w_ts v_s / (sum_s w_ts + eps)`` with ``w_ts = phi(q_t) . phi(k_s)`` and ``phi = elu + 1`` (Katharopoulos et
    al. 2020, https://arxiv.org/abs/2006.16236), without positions: over ``s <= t`` in a decoder, over all in an encoder."""

    kind: Literal["linear"] = "linear"
    v_dim: Positive | None = None
    """Value dimensions of a head. None: ``head_dim``."""
    eps: Epsilon = 1e-8
    """Added to the sum of weights."""
    chunk: Positive = 64
    """Tokens that ``chunked`` multiplies at once; decides how, not what is computed."""
    implementation: Literal["auto", "reference", "recurrent", "chunked"] = "auto"
    """The same function with every weight written out, token by token (causal only), or by chunks. ``auto``: token by token for
    a few tokens, else by chunks. A cache holds sums and no keys: with one, ``reference`` goes token by token."""

    @property
    def value_dim(self) -> int:
        """``v_dim`` with its default filled in."""
        return self.head_dim if self.v_dim is None else self.v_dim


class GatedDelta(Config):
    """Gated DeltaNet (Yang et al. 2024, https://arxiv.org/abs/2412.06464) as Qwen3-Next has it: a state per head that decays,
    is corrected towards each new value, and is read by each query. Causal."""

    kind: Literal["gated_delta"] = "gated_delta"
    num_key_heads: Positive
    """Heads of queries and keys."""
    num_value_heads: Positive
    """Heads of values, gates and states; value head ``n`` reads key head ``n // (num_value_heads / num_key_heads)``."""
    key_dim: Positive
    """Query and key dimensions of a head."""
    v_dim: Positive
    """Value dimensions of a head."""
    conv_width: Annotated[int, Field(ge=2)] = 4
    """Tokens that the short convolution of queries, keys and values sees, the newest included."""
    norm: RMSNorm = RMSNorm()
    """Of each head's output, before the output gate."""
    allow_neg_eigval: bool = False
    """Writes with up to twice the strength, ``beta = 2 sigmoid(b)``: the state may turn a direction round
    (https://arxiv.org/abs/2411.12537)."""
    l2_eps: Epsilon = 1e-6
    """Of the unit length of queries and keys, ``x / sqrt(sum(x^2) + l2_eps)``."""
    chunk: Positive = 64
    """Tokens that ``chunked`` multiplies at once; decides how, not what is computed."""
    implementation: Literal["auto", "recurrent", "chunked"] = "auto"
    """The same function token by token, or by chunks. ``auto``: token by token for a few tokens, else by chunks."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.num_value_heads % self.num_key_heads:
            raise ValueError(
                f"num_value_heads={self.num_value_heads} is not a multiple of num_key_heads={self.num_key_heads}: every key "
                "head serves the same number of value heads; num_key_heads must divide num_value_heads"
            )
        return self


def token_by_token(c: Linear | GatedDelta, length: int) -> bool:
    """Whether a causal pass over ``length`` tokens that carries a state goes token by token, rather than by chunks."""
    return c.implementation in ("recurrent", "reference") or (c.implementation == "auto" and length <= FEW)


def why_causal(attention: Config) -> str | None:
    """Why a mixer cannot see what follows a token, and what to use instead; None where it can."""
    if isinstance(attention, GatedDelta):
        return (
            "kind=gated_delta reads tokens in order and sees nothing that follows, but an encoder sees both directions; use "
            "softmax, linear, complex or mla"
        )
    if isinstance(attention, Linear) and attention.implementation == "recurrent":
        return "implementation=recurrent reads in order, but an encoder sees both directions; use auto, chunked or reference"
    return None
