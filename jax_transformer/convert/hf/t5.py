"""T5 1.0 and 1.1, Flan-T5, mT5, UMT5: one bias of relative positions for each stack, scores without a scale."""

from typing import Any

from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import INVERSE_ROOT, Choice, Field, Fixed, Keys, Only, Part
from jax_transformer.convert.hf.skeleton import modules
from jax_transformer.convert.rows import Drop, Row

TOWERS = ("encoder", "decoder")
BOTH = tuple(f"{tower}.layer" for tower in TOWERS)
MIXERS = (*(f"{layer}.attention" for layer in BOTH), "decoder.layer.cross_attention")
NORMS = tuple(f"{place}" for tower in TOWERS for place in (f"{tower}.layer.norm", f"{tower}.final_norm"))


def paths(places: tuple[str, ...], field: str) -> tuple[str, ...]:
    """The same field at several places."""
    return tuple(f"{place}.{field}" for place in places)


def fixed(places: tuple[str, ...], **values: Any) -> Fixed:
    """The same values at several places."""
    return Fixed({f"{place}.{field}": value for place in places for field, value in values.items()})


def decoder_layers(hf: Keys) -> int:
    """As many layers as the encoder has."""
    return hf.get("num_layers")


FEED_FORWARD = {
    "relu": ("mlp", "relu"),
    "gelu": ("mlp", "gelu_erf"),
    "gated-gelu": ("glu", "gelu_tanh"),
    "gated-silu": ("glu", "silu"),
    "gated-relu": ("glu", "relu"),
}


def feed_forward(default: str) -> Choice:
    """``feed_forward_proj``: kind and activation of both halves."""
    options = {
        name: {f"{layer}.ffn.kind": kind for layer in BOTH} | {f"{layer}.ffn.activation": activation for layer in BOTH}
        for name, (kind, activation) in FEED_FORWARD.items()
    }
    return Choice("feed_forward_proj", default, options)


class Output:
    """``tie_word_embeddings``, which in T5 also says whether the logits are scaled, and ``scale_decoder_outputs``."""

    def read(self, hf: Keys) -> Flat:
        """Tying and scale. A file whose two matrices differ is untied whatever the key says."""
        tied = hf.get("tie_word_embeddings", True)
        scaled = hf.get("scale_decoder_outputs", tied)
        return {"head.tied": tied, "head.scale": hf.get("d_model") ** -0.5 if scaled else 1.0}

    def write(self, flat: Flat) -> dict[str, Any]:
        """Both keys."""
        return {"tie_word_embeddings": flat["head.tied"], "scale_decoder_outputs": flat["head.scale"] != 1.0}


SELF = {f"layer.0.SelfAttention.{name}": f"attn.{name}_proj" for name in "qkvo"} | {"layer.0.layer_norm": "attn_norm"}
CROSS = {f"layer.1.EncDecAttention.{name}": f"cross_attn.{name}_proj" for name in "qkvo"} | {"layer.1.layer_norm": "cross_norm"}
ENDS = {
    "shared": "encoder.embed",
    "encoder.final_layer_norm": "encoder.final_norm",
    "decoder.final_layer_norm": "decoder.final_norm",
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias": "encoder.stack.shared_bias.table",
    "decoder.block.0.layer.0.SelfAttention.relative_attention_bias": "decoder.stack.shared_bias.table",
    "lm_head": "head",
}


def stack(tower: str, names: dict[str, str], ffn: int) -> tuple[Row, ...]:
    """The rows of one half; ``ffn`` is the number of its last sub-layer."""
    theirs, ours, dense = f"{tower}.block.{{layer}}.", f"{tower}.stack.layers.{{layer}}.", f"layer.{ffn}.DenseReluDense."
    kind = f"{tower}.layers.{{layer}}.ffn.kind"
    gated = {f"{dense}wi_0": "ffn.gate_proj", f"{dense}wi_1": "ffn.up_proj"}
    return (
        *modules(theirs, names | {f"layer.{ffn}.layer_norm": "ffn_norm", f"{dense}wo": "ffn.down_proj"}, ours),
        *modules(theirs, {f"{dense}wi": "ffn.up_proj"}, ours, when=(kind, ("mlp",))),
        *modules(theirs, gated, ours, when=(kind, ("glu",))),
    )


def positions(places: tuple[str, ...]) -> tuple[Part, ...]:
    """The biases of relative positions."""
    return (
        Field(paths(places, "num_buckets"), "relative_attention_num_buckets", 32),
        Field(paths(places, "max_distance"), "relative_attention_max_distance", 128),
        fixed(places, kind="t5_bias"),
    )


SHARED = tuple(f"{tower}.stack.shared_bias" for tower in TOWERS)
SHARED_BIAS = (
    *positions(SHARED),
    fixed(tuple(f"{layer}.attention.position" for layer in BOTH), kind="shared_bias"),
)
OWN = {"layer.0.SelfAttention.relative_attention_bias": "attn.position.table"}
PARTS = (
    Fixed({"kind": "encoder_decoder", "share_embedding": True}),
    Field("vocab_size", "vocab_size"),
    Field("d_model", "d_model"),
    Field(("max_source_length", "max_length"), "n_positions", 512),
    Field("encoder.stack.num_layers", "num_layers"),
    Field("decoder.stack.num_layers", "num_decoder_layers", decoder_layers),
    Field(paths(MIXERS, "num_heads"), "num_heads"),
    Field(paths(MIXERS, "head_dim"), "d_kv", 64),
    Field(paths(BOTH, "ffn.hidden_dim"), "d_ff"),
    Field(paths(NORMS, "eps"), "layer_norm_epsilon", 1e-6),
    Field("start_token", "decoder_start_token_id", 0),
    fixed(NORMS, kind="rms_norm", weight="scale", cast="before_weight"),
    fixed(MIXERS, scale=1.0),
    fixed(BOTH, **{"attention.kind": "softmax"}),
)

T5 = Family(
    name="t5",
    architecture="T5ForConditionalGeneration",
    parts=(
        *PARTS,
        feed_forward("relu"),
        *SHARED_BIAS,
        Output(),
    ),
    rows=modules("", ENDS, "") + stack("encoder", SELF, 1) + stack("decoder", SELF | CROSS, 2),
    drops=(
        Drop("decoder.block.{layer}.layer.1.EncDecAttention.relative_attention_bias.weight", "old files have it for nothing"),
    ),
    head=("lm_head.weight", "shared.weight"),
    copies=(("encoder.embed_tokens.weight", "shared.weight"), ("decoder.embed_tokens.weight", "shared.weight")),
    harmless="dense_act_fn is_gated_act is_decoder dropout_rate output_past",
)

SCALED = (
    Field("head.scale", "d_model", codec=INVERSE_ROOT),
    Fixed({"head.tied": True}),
    Only("tie_word_embeddings", (True,), "transformers 4 then leaves the logits as they are and 5 scales them"),
)

UMT5 = Family(
    name="umt5",
    architecture="UMT5ForConditionalGeneration",
    parts=(*PARTS, feed_forward("gated-gelu"), *positions(tuple(f"{layer}.attention.position" for layer in BOTH)), *SCALED),
    rows=modules("", ENDS, "") + stack("encoder", SELF | OWN, 1) + stack("decoder", SELF | OWN | CROSS, 2),
    head=T5.head,
    copies=T5.copies,
    harmless=T5.harmless,
)

MT5 = Family(
    name="mt5",
    architecture="MT5ForConditionalGeneration",
    parts=(*PARTS, feed_forward("gated-gelu"), *SHARED_BIAS, Field("head.tied", "tie_word_embeddings", True)),
    rows=T5.rows,
    drops=T5.drops,
    head=T5.head,
    copies=T5.copies,
    harmless=T5.harmless,
)
