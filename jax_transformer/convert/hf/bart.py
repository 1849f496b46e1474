"""BART, mBART, Marian, Pegasus: layer norms and biases everywhere; learned positions from row 2, or sinusoids."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_transformer.convert.byte_ops import Reshape
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import ACTIVATION, Equal, Field, Fixed, Keys, Only, Part
from jax_transformer.convert.hf.skeleton import modules
from jax_transformer.convert.hf.t5 import BOTH, MIXERS, TOWERS, fixed, paths
from jax_transformer.convert.rows import Constant, Drop, Row

BIASES = (*paths(MIXERS, "qkv_bias"), *paths(MIXERS, "o_bias"), *paths(BOTH, "ffn.bias"))
EMBEDDINGS = tuple(f"{tower}.embedding" for tower in TOWERS)


class Scale:
    """``scale_embedding``: rows times the root of the width."""

    def read(self, hf: Keys) -> Flat:
        """The factor of both halves."""
        return dict.fromkeys(paths(EMBEDDINGS, "scale"), "sqrt_dim" if hf.get("scale_embedding", False) else 1.0)

    def write(self, flat: Flat) -> dict[str, Any]:
        """Whether there is a factor."""
        return {"scale_embedding": flat["encoder.embedding.scale"] != 1.0}


class HeadDim:
    """Each half divides the width among its heads."""

    def read(self, hf: Keys) -> Flat:
        """The quotients."""
        width = hf.get("d_model")
        counts = [hf.get(f"{tower}_attention_heads") for tower in (*TOWERS, "decoder")]
        return {f"{path}.head_dim": width // count for path, count in zip(MIXERS, counts, strict=True)}

    def write(self, flat: Flat) -> dict[str, Any]:
        """No key says it."""
        return {}


def parts(placement: str, embedding_norm: bool, final_norm: bool, start: int) -> tuple[Part, ...]:
    """The config, but for positions."""
    norms = tuple(f"{layer}.norm" for layer in BOTH)
    norms += tuple(f"{tower}.embedding.norm" for tower in TOWERS if embedding_norm)
    norms += tuple(f"{tower}.final_norm" for tower in TOWERS if final_norm)
    return (
        Fixed({"kind": "encoder_decoder", "share_embedding": True, "head.bias": True}),
        Field("vocab_size", "vocab_size"),
        Field("d_model", "d_model"),
        Field(("max_source_length", "max_length"), "max_position_embeddings", 1024),
        *(Field(f"{tower}.stack.num_layers", f"{tower}_layers") for tower in TOWERS),
        Field("encoder.layer.attention.num_heads", "encoder_attention_heads"),
        Field(paths(MIXERS[1:], "num_heads"), "decoder_attention_heads"),
        HeadDim(),
        *(Field(f"{tower}.layer.ffn.hidden_dim", f"{tower}_ffn_dim") for tower in TOWERS),
        Field(paths(BOTH, "ffn.activation"), "activation_function", "gelu", ACTIVATION),
        Fixed({"head.tied": True}),
        Only("tie_word_embeddings", (True,), "transformers 4 then still shares one table between the halves and 5 does not"),
        Field("start_token", "decoder_start_token_id", start),
        Scale(),
        fixed(norms, kind="layer_norm", eps=1e-5),
        fixed(BOTH, placement=placement),
        Fixed({f"{layer}.attention.kind": "softmax" for layer in BOTH}),
        Fixed({f"{layer}.attention.position.kind": "none" for layer in BOTH}),
        Fixed({f"{layer}.ffn.kind": "mlp" for layer in BOTH}),
        Fixed(dict.fromkeys(BIASES, True)),
    )


PLACES = tuple(f"{name}.position" for name in EMBEDDINGS)
LEARNED = fixed(PLACES, kind="learned", offset=2)
SINUSOIDAL = fixed(PLACES, kind="sinusoidal", layout="halves")
TABLES = tuple(Drop(f"model.{tower}.embed_positions.weight", "sinusoids") for tower in TOWERS)


def attention(theirs: str, ours: str) -> dict[str, str]:
    """The modules of one attention."""
    return {f"{theirs}.{name}_proj": f"{ours}.{name}_proj" for name in "qkv"} | {f"{theirs}.out_proj": f"{ours}.o_proj"}


def rows(norm: str) -> tuple[Row, ...]:
    """The tensors; ``norm`` is ``norm`` before the branches and ``sum_norm`` after."""
    own = attention("self_attn", "attn") | {"fc1": "ffn.up_proj", "fc2": "ffn.down_proj"}
    own |= {"self_attn_layer_norm": f"attn_{norm}", "final_layer_norm": f"ffn_{norm}"}
    cross = attention("encoder_attn", "cross_attn") | {"encoder_attn_layer_norm": f"cross_{norm}"}
    ends = {"model.shared": "encoder.embed"}
    for tower in TOWERS:
        ends |= {
            f"model.{tower}.embed_positions": f"{tower}.inputs.positions.table",
            f"model.{tower}.layernorm_embedding": f"{tower}.inputs.norm",
            f"model.{tower}.layer_norm": f"{tower}.final_norm",
        }
    return (
        *modules("", ends, ""),
        *modules("model.encoder.layers.{layer}.", own, "encoder.stack.layers.{layer}."),
        *modules("model.decoder.layers.{layer}.", own | cross, "decoder.stack.layers.{layer}."),
        Row("lm_head.weight", ("head.weight",)),
        Row("final_logits_bias", ("head.bias",), Reshape((1, -1))),
    )


def sinusoids(facts: Mapping[str, Any]) -> np.ndarray:
    """Sines of every position, then cosines."""
    half = facts["d_model"] // 2
    angles = np.arange(facts["max_source_length"])[:, None] * 10_000.0 ** (-np.arange(half) / half)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


COPIES = (
    ("model.encoder.embed_tokens.weight", "model.shared.weight"),
    ("model.decoder.embed_tokens.weight", "model.shared.weight"),
)
HARMLESS = (
    "is_decoder num_hidden_layers add_bias_logits add_final_layer_norm classif_dropout normalize_before max_length "
    "normalize_embedding static_position_embeddings extra_pos_embeddings do_blenderbot_90_layernorm min_length"
)

BART = Family(
    name="bart",
    architecture="BartForConditionalGeneration",
    parts=(*parts("post", embedding_norm=True, final_norm=False, start=2), LEARNED),
    rows=rows("sum_norm"),
    prefix="model.",
    head=("lm_head.weight", "model.shared.weight"),
    copies=COPIES,
    harmless=HARMLESS,
)

MBART = Family(
    name="mbart",
    architecture="MBartForConditionalGeneration",
    parts=(*parts("pre", embedding_norm=True, final_norm=True, start=0), LEARNED),
    rows=rows("norm"),
    prefix="model.",
    head=("lm_head.weight", "model.shared.weight"),
    copies=COPIES,
    harmless=HARMLESS,
)

MARIAN = Family(
    name="marian",
    architecture="MarianMTModel",
    parts=(
        *parts("post", embedding_norm=False, final_norm=False, start=58100),
        SINUSOIDAL,
        Only("share_encoder_decoder_embeddings", (True,), "the halves would have vocabularies of their own"),
        Equal("decoder_vocab_size", "vocab_size", "the halves share a vocabulary", "vocab_size"),
    ),
    rows=rows("sum_norm"),
    drops=TABLES,
    prefix="model.",
    head=("lm_head.weight", "model.shared.weight"),
    copies=COPIES,
    harmless=HARMLESS,
)

PEGASUS = Family(
    name="pegasus",
    architecture="PegasusForConditionalGeneration",
    parts=(*parts("pre", embedding_norm=False, final_norm=True, start=0), SINUSOIDAL),
    rows=rows("norm"),
    constants=tuple(Constant(f"model.{tower}.embed_positions.weight", sinusoids) for tower in TOWERS),
    prefix="model.",
    head=("lm_head.weight", "model.shared.weight"),
    copies=COPIES,
    harmless=HARMLESS,
)
