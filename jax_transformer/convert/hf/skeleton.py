"""Rows and config parts that many families share."""

from collections.abc import Mapping
from typing import Any

from jax_transformer.convert.byte_ops import Op
from jax_transformer.convert.hf.depth import Context
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import ACTIVATION, GPT_ACTIVATION, Field, Fixed, Keys, Missing, Part
from jax_transformer.convert.rows import SAME, Drop, Row, When

WIDTH, HEADS = ("hidden_size", "n_embd", "n_embed"), ("num_attention_heads", "n_head")
LAYER = "model.layers.{layer}."
OURS = "stack.layers.{layer}."
ROTARY = (
    Drop("model.layers.{layer}.self_attn.rotary_emb.inv_freq", "follows from the config"),
    Drop("model.rotary_emb.inv_freq", "follows from the config"),
)


def modules(
    theirs: str, names: Mapping[str, str], ours: str = OURS, op: Op | None = None, when: When | None = None
) -> tuple[Row, ...]:
    """Weight and bias of each module, their name to ours, under the two prefixes."""
    return tuple(
        Row(f"{theirs}{their}.{leaf}", (f"{ours}{our}.{leaf}",), op or SAME, when)
        for their, our in names.items()
        for leaf in ("weight", "bias")
    )


def fused(theirs: str, ours: tuple[str, ...], op: Op, prefix: str = OURS) -> tuple[Row, ...]:
    """Weight and bias of one module that is several of ours."""
    return tuple(Row(f"{theirs}.{leaf}", tuple(f"{prefix}{name}.{leaf}" for name in ours), op) for leaf in ("weight", "bias"))


ATTENTION = {f"self_attn.{name}_proj": f"attn.{name}_proj" for name in "qkvo"}
GLU = {f"mlp.{name}_proj": f"ffn.{name}_proj" for name in ("gate", "up", "down")}
PRE = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
QKV = ("attn.q_proj", "attn.k_proj", "attn.v_proj")
QK_NORM = {"self_attn.q_norm": "attn.q_norm", "self_attn.k_norm": "attn.k_norm"}
ENDS = modules("", {"model.embed_tokens": "embed", "model.norm": "final_norm", "lm_head": "head"}, "")
"""What stands before and after the layers."""

DECODER = Fixed({"kind": "decoder", "layer.attention.kind": "softmax"})
"""A causal model of softmax attention."""

LLAMA_ROWS = ENDS + modules(LAYER, ATTENTION | GLU | PRE)


def quotient(hf: Keys) -> int:
    """Head width of a config without ``head_dim``."""
    return hf.get(WIDTH) // hf.get(HEADS)


def all_heads(hf: Keys) -> int:
    """As many key/value heads as query heads."""
    return hf.get(HEADS)


def wide(hf: Keys) -> int:
    """Four times the model's width."""
    return 4 * hf.get(WIDTH)


def sizes(
    context: int,
    head_dim: Any = quotient,
    kv_heads: Any = all_heads,
    own_head_dim: bool = True,
    tied: bool = False,
    hidden: str | tuple[str, ...] = "layer.ffn.hidden_dim",
) -> tuple[Part, ...]:
    """Counts and widths under their usual keys, of a model whose layers all have the same heads; ``hidden`` are the paths of
    ``intermediate_size``."""
    return (
        *widths(context, tied),
        *heads(head_dim, kv_heads, own_head_dim),
        *((Field(hidden, "intermediate_size"),) if hidden else ()),
    )


def widths(context: int, tied: bool = False) -> tuple[Part, ...]:
    """What every decoder says of itself, whatever its attention and its feed-forward networks are."""
    return (
        Field("vocab_size", "vocab_size"),
        Field("d_model", "hidden_size"),
        Field("stack.num_layers", "num_hidden_layers"),
        Field("head.tied", "tie_word_embeddings", tied),
        Context(context),
    )


def counts(context: int, tied: bool = False) -> tuple[Part, ...]:
    """The same with the number of heads, where all layers have as many."""
    return (*widths(context, tied), HEAD_COUNT)


HEAD_COUNT = Field("layer.attention.num_heads", "num_attention_heads")


def heads(head_dim: Any = quotient, kv_heads: Any = all_heads, own_head_dim: bool = True) -> tuple[Part, ...]:
    """Heads of attention; ``own_head_dim`` is false where ``head_dim`` is always the quotient, and ``kv_heads`` is None where
    every head has keys and values of its own."""
    grouped = (
        () if kv_heads is None else (Field("layer.attention.num_kv_heads", "num_key_value_heads", kv_heads, null=all_heads),)
    )
    return (
        HEAD_COUNT,
        *grouped,
        Field("layer.attention.head_dim", "head_dim", head_dim, null=quotient) if own_head_dim else Quotient(),
    )


def gpt_sizes(tied: bool) -> tuple[Part, ...]:
    """Counts and widths as GPT-2 spells them."""
    return (
        DECODER,
        Field("vocab_size", "vocab_size"),
        Field("d_model", ("n_embd", "hidden_size")),
        Field("stack.num_layers", ("n_layer", "num_hidden_layers")),
        Field("layer.attention.num_heads", ("n_head", "num_attention_heads")),
        Quotient(),
        Field("layer.ffn.hidden_dim", "n_inner", wide),
        Field("head.tied", "tie_word_embeddings", tied),
        Field("max_length", ("n_positions", "max_position_embeddings"), 1024),
    )


class Quotient:
    """``head_dim = hidden_size / num_attention_heads``, for a family without a key for it."""

    def read(self, hf: Keys) -> Flat:
        """The quotient."""
        return {"layer.attention.head_dim": quotient(hf)}

    def write(self, flat: Flat) -> dict[str, Any]:
        """No key says it."""
        return {}


def rms(eps: float, cast: str = "before_weight", weight: str = "scale", *more: str) -> tuple[Part, ...]:
    """RMS norms everywhere, of one epsilon; ``more`` are the paths of further norms."""
    paths = ("layer.norm", "final_norm", *more)
    fixed = {f"{path}.{key}": value for path in paths for key, value in _rms(cast, weight).items()}
    return (Fixed(fixed), Field(tuple(f"{path}.eps" for path in paths), "rms_norm_eps", eps))


def layer_norm(key: str | tuple[str, ...], eps: Any = Missing, weight: str = "scale", bias: bool = True) -> tuple[Part, ...]:
    """Layer norms everywhere, of one epsilon."""
    paths = ("layer.norm", "final_norm")
    fixed = {f"{path}.{name}": value for path in paths for name, value in _ln(weight, bias).items()}
    return (Fixed(fixed), Field(tuple(f"{path}.eps" for path in paths), key, eps))


def _rms(cast: str, weight: str) -> dict[str, Any]:
    return {"kind": "rms_norm", "cast": cast, "weight": weight}


def _ln(weight: str, bias: bool) -> dict[str, Any]:
    return {"kind": "layer_norm", "weight": weight, "bias": bias}


def feed_forward(kind: str, act: str, key: str | tuple[str, ...] = "hidden_act") -> tuple[Part, ...]:
    """A feed-forward network of ``kind`` with their activation ``act`` by default."""
    codec = GPT_ACTIVATION if act == "gelu_new" else ACTIVATION
    return (Fixed({"layer.ffn.kind": kind}), Field("layer.ffn.activation", key, act, codec))
