"""ELECTRA's generator: BERT with a factorised table and another head."""

from jax_transformer.convert.hf.bert import EMBEDDINGS, NAMES, OLD, encoder
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import ACTIVATION, Field, Fixed
from jax_transformer.convert.hf.skeleton import modules
from jax_transformer.convert.rows import Drop, Row

ELECTRA = Family(
    name="electra",
    architecture="ElectraForMaskedLM",
    parts=(
        *encoder(1e-12, 2),
        Field("max_length", "max_position_embeddings", 512),
        Field("embedding.dim", "embedding_size", 128),
        Field("layer.ffn.activation", "hidden_act", "gelu", ACTIVATION),
        Fixed({"head.activation": "gelu_erf", "embedding.projection_bias": True}),
    ),
    rows=(
        *modules("electra.", EMBEDDINGS | {"embeddings_project": "inputs.projection"}, ""),
        *modules("electra.encoder.layer.{layer}.", NAMES),
        *modules("generator_predictions.", {"dense": "head.dense", "LayerNorm": "head.norm"}, ""),
        Row("generator_lm_head.bias", ("head.bias",)),
    ),
    drops=(Drop("electra.embeddings.position_ids", "a buffer"),),
    head=("generator_lm_head.weight", "electra.embeddings.word_embeddings.weight"),
    spellings=OLD,
    harmless="summary_type summary_use_proj summary_activation summary_last_dropout",
)
