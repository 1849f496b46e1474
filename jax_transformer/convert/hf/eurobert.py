"""EuroBERT: Llama that sees both directions, and predicts masked tokens from its last states."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed
from jax_transformer.convert.hf.skeleton import LLAMA_ROWS, feed_forward, rms, sizes

EUROBERT = Family(
    name="eurobert",
    architecture="EuroBertForMaskedLM",
    parts=(
        Fixed({"kind": "encoder", "layer.attention.kind": "softmax", "head.kind": "mlm", "head.transform": False}),
        *sizes(8192),
        *rms(1e-5),
        *feed_forward("glu", "silu"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Field(("layer.ffn.bias", "head.bias"), "mlp_bias", False),
        Rope(),
    ),
    rows=LLAMA_ROWS,
    harmless="mask_token_id classifier_pooling",
)
