"""BERT with its prediction of masked tokens: norms after the branches, learned positions, token types."""

from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import ACTIVATION, Field, Fixed, Only, Part
from jax_transformer.convert.hf.skeleton import Quotient, modules
from jax_transformer.convert.rows import Drop, Row

NAMES = {f"attention.self.{name}": f"attn.{ours}_proj" for name, ours in (("query", "q"), ("key", "k"), ("value", "v"))} | {
    "attention.output.dense": "attn.o_proj",
    "attention.output.LayerNorm": "attn_sum_norm",
    "intermediate.dense": "ffn.up_proj",
    "output.dense": "ffn.down_proj",
    "output.LayerNorm": "ffn_sum_norm",
}
EMBEDDINGS = {
    "embeddings.word_embeddings": "embed",
    "embeddings.position_embeddings": "inputs.positions.table",
    "embeddings.token_type_embeddings": "inputs.types",
    "embeddings.LayerNorm": "inputs.norm",
}
TRUE = ("layer.attention.qkv_bias", "layer.attention.o_bias", "layer.ffn.bias")
EPS = ("layer.norm.eps", "embedding.norm.eps", "head.norm.eps")
OLD = ((".LayerNorm.gamma", ".LayerNorm.weight"), (".LayerNorm.beta", ".LayerNorm.bias"))


def encoder(eps: float, types: int) -> tuple[Part, ...]:
    """The config of BERT, but for its length and positions."""
    return (
        Fixed({"kind": "encoder", "layer.attention.kind": "softmax", "layer.attention.position.kind": "none"}),
        Field("vocab_size", "vocab_size"),
        Field("d_model", "hidden_size"),
        Field("stack.num_layers", "num_hidden_layers"),
        Field("layer.attention.num_heads", "num_attention_heads"),
        Quotient(),
        Field("layer.ffn.hidden_dim", "intermediate_size"),
        Field("embedding.num_token_types", "type_vocab_size", types),
        Fixed({"head.tied": True}),
        Only("tie_word_embeddings", (True,), "transformers has two biases then, of which one does nothing"),
        Field(EPS, "layer_norm_eps", eps),
        Fixed({path.removesuffix("eps") + "kind": "layer_norm" for path in EPS} | dict.fromkeys(TRUE, True)),
        Fixed({"layer.placement": "post", "layer.ffn.kind": "mlp", "head.kind": "mlm", "embedding.position.kind": "learned"}),
        Only("position_embedding_type", ("absolute",), "relative positions of this kind are not built"),
        Only("is_decoder", (False,), "an encoder sees the whole sequence"),
        Only("add_cross_attention", (False,), "an encoder reads nothing but its own input"),
    )


BERT = Family(
    name="bert",
    architecture="BertForMaskedLM",
    parts=(
        *encoder(1e-12, 2),
        Field("max_length", "max_position_embeddings", 512),
        Field(("layer.ffn.activation", "head.activation"), "hidden_act", "gelu", ACTIVATION),
    ),
    rows=(
        *modules("bert.", EMBEDDINGS, ""),
        *modules("bert.encoder.layer.{layer}.", NAMES),
        *modules("cls.predictions.transform.", {"dense": "head.dense", "LayerNorm": "head.norm"}, ""),
        Row("cls.predictions.bias", ("head.bias",)),
    ),
    drops=(
        Drop("bert.embeddings.position_ids", "a buffer"),
        *(Drop(f"bert.pooler.dense.{leaf}", "serves no masked token") for leaf in ("weight", "bias")),
        *(Drop(f"cls.seq_relationship.{leaf}", "serves no masked token") for leaf in ("weight", "bias")),
    ),
    prefix="bert.",
    head=("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    copies=(("cls.predictions.decoder.bias", "cls.predictions.bias"),),
    spellings=OLD,
    harmless="gradient_checkpointing directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers "
    "pooler_size_per_head pooler_type",
)
