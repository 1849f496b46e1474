"""DistilBERT: BERT without token types."""

from typing import Any

from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import ACTIVATION, Field, Fixed, Keys, Only
from jax_transformer.convert.hf.skeleton import modules
from jax_transformer.convert.rows import Drop, Row

NAMES = {f"attention.{name}_lin": f"attn.{name}_proj" for name in "qkv"} | {
    "attention.out_lin": "attn.o_proj",
    "sa_layer_norm": "attn_sum_norm",
    "ffn.lin1": "ffn.up_proj",
    "ffn.lin2": "ffn.down_proj",
    "output_layer_norm": "ffn_sum_norm",
}
EMBEDDINGS = {
    "embeddings.word_embeddings": "embed",
    "embeddings.position_embeddings": "inputs.positions.table",
    "embeddings.LayerNorm": "inputs.norm",
}
NORM = {"kind": "layer_norm", "eps": 1e-12}
NORMS = {f"{path}.{key}": value for path in ("layer.norm", "embedding.norm", "head.norm") for key, value in NORM.items()}
TRUE = ("layer.attention.qkv_bias", "layer.attention.o_bias", "layer.ffn.bias", "head.tied")


class Heads:
    """Width of a head: the quotient."""

    def read(self, hf: Keys) -> Flat:
        """The quotient."""
        return {"layer.attention.head_dim": hf.get("dim") // hf.get("n_heads")}

    def write(self, flat: Flat) -> dict[str, Any]:
        """No key says it."""
        return {}


DISTILBERT = Family(
    name="distilbert",
    architecture="DistilBertForMaskedLM",
    parts=(
        Fixed({"kind": "encoder", "layer.attention.kind": "softmax", "layer.attention.position.kind": "none"}),
        Fixed({"layer.placement": "post", "layer.ffn.kind": "mlp", "head.kind": "mlm", "embedding.position.kind": "learned"}),
        Fixed(NORMS | dict.fromkeys(TRUE, True)),
        Field("vocab_size", "vocab_size"),
        Field("d_model", "dim"),
        Field("stack.num_layers", "n_layers"),
        Field("layer.attention.num_heads", "n_heads"),
        Heads(),
        Field("layer.ffn.hidden_dim", "hidden_dim"),
        Field("max_length", "max_position_embeddings", 512),
        Field(("layer.ffn.activation", "head.activation"), "activation", "gelu", ACTIVATION),
        Only("sinusoidal_pos_embds", (False, True), "the table is stored in either case"),
        Only("tie_word_embeddings", (True,), "the output matrix is the table"),
    ),
    rows=(
        *modules("distilbert.", EMBEDDINGS, ""),
        *modules("distilbert.transformer.layer.{layer}.", NAMES),
        *modules("", {"vocab_transform": "head.dense", "vocab_layer_norm": "head.norm"}, ""),
        Row("vocab_projector.bias", ("head.bias",)),
    ),
    drops=(Drop("distilbert.embeddings.position_ids", "a buffer"),),
    head=("vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"),
    harmless="qa_dropout seq_classif_dropout tie_weights_",
)
