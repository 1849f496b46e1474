"""RoBERTa: BERT whose positions begin after the id of padding, with another head."""

from typing import Any

from jax_transformer.convert.hf.bert import EMBEDDINGS, NAMES, OLD, encoder
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import ACTIVATION, Field, Fixed, Keys
from jax_transformer.convert.hf.skeleton import modules
from jax_transformer.convert.rows import Drop, Row


class Positions:
    """The first position is row ``pad_token_id + 1`` of the table, which has ``max_position_embeddings`` rows."""

    def read(self, hf: Keys) -> Flat:
        """Offset and longest sequence."""
        offset = hf.get("pad_token_id", 1) + 1
        return {"embedding.position.offset": offset, "max_length": hf.get("max_position_embeddings", 512) - offset}

    def write(self, flat: Flat) -> dict[str, Any]:
        """Both keys."""
        offset = flat["embedding.position.offset"]
        return {"pad_token_id": offset - 1, "max_position_embeddings": flat["max_length"] + offset}


ROBERTA = Family(
    name="roberta",
    architecture="RobertaForMaskedLM",
    parts=(
        *encoder(1e-12, 2),
        Positions(),
        Field("layer.ffn.activation", "hidden_act", "gelu", ACTIVATION),
        Fixed({"head.activation": "gelu_erf"}),
    ),
    rows=(
        *modules("roberta.", EMBEDDINGS, ""),
        *modules("roberta.encoder.layer.{layer}.", NAMES),
        *modules("lm_head.", {"dense": "head.dense", "layer_norm": "head.norm"}, ""),
        Row("lm_head.bias", ("head.bias",)),
    ),
    drops=(
        Drop("roberta.embeddings.position_ids", "a buffer"),
        *(Drop(f"roberta.pooler.dense.{leaf}", "serves no masked token") for leaf in ("weight", "bias")),
    ),
    head=("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
    copies=(("lm_head.decoder.bias", "lm_head.bias"),),
    spellings=OLD,
)
