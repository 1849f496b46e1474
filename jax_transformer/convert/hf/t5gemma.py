"""T5Gemma: an encoder and a decoder of Gemma 2, each with a config of its own; cross-attention between sandwich norms."""

from typing import Any

from jax_transformer.convert.hf.depth import Context, Rope, Window, every_full
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.nested import Half, Halves
from jax_transformer.convert.hf.parts import CAP, INVERSE_ROOT, Field, Fixed, Keys, Only, Part
from jax_transformer.convert.hf.skeleton import ATTENTION, GLU, feed_forward, modules, quotient, rms
from jax_transformer.convert.hf.t5 import TOWERS, paths

MODULE = "t5_gemma_module"
DEFAULTS = {
    "vocab_size": 256_000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
}
HARMLESS = "is_decoder dropout_rate classifier_dropout_rate cache_implementation tie_word_embeddings"


def parts(*mixers: str) -> tuple[Part, ...]:
    """The config of one half with these attentions."""
    return (
        Field("vocab_size", "vocab_size"),
        Field("d_model", "hidden_size"),
        Field("stack.num_layers", "num_hidden_layers"),
        Context(8192),
        Field(paths(mixers, "num_heads"), "num_attention_heads"),
        Field(paths(mixers, "num_kv_heads"), "num_key_value_heads", 4),
        Field(paths(mixers, "head_dim"), "head_dim", 256, null=quotient),
        Field((*paths(mixers, "qkv_bias"), *paths(mixers, "o_bias")), "attention_bias", False),
        Field(paths(mixers, "scale"), "query_pre_attn_scalar", 256, INVERSE_ROOT),
        Field(paths(mixers, "softcap"), "attn_logit_softcapping", 50.0, CAP, null=None),
        Field("layer.ffn.hidden_dim", "intermediate_size"),
        *feed_forward("glu", "gelu_pytorch_tanh", "hidden_activation"),
        *rms(1e-6, "after_weight", "one_plus"),
        Fixed({"embedding.scale": "sqrt_dim", "layer.attention.kind": "softmax", "layer.placement": "sandwich"}),
        Window(every_full(2), 4096, idle=4096),
        Rope(),
    )


class SourceWidth:
    """``cross_attention_hidden_size``: the width of the encoder once more, whatever a file says."""

    def read(self, hf: Keys) -> Flat:
        """Nothing: transformers takes it from the encoder."""
        hf.get("cross_attention_hidden_size", None)
        return {}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The width."""
        return {"cross_attention_hidden_size": flat["encoder.d_model"]}


ENCODER = Half(
    key="encoder",
    model_type=MODULE,
    parts=parts("layer.attention"),
    defaults=DEFAULTS,
    harmless=f"{HARMLESS} final_logit_softcapping cross_attention_hidden_size",
    renamed={"d_model": "encoder.d_model", "max_length": "max_source_length"},
)
DECODER = Half(
    key="decoder",
    model_type=MODULE,
    parts=(
        *parts("layer.attention", "layer.cross_attention"),
        Field("head.softcap", "final_logit_softcapping", 30.0, CAP, null=None),
        Field("start_token", "bos_token_id", 2),
        SourceWidth(),
    ),
    defaults=DEFAULTS,
    harmless=HARMLESS,
)

SANDWICH = {
    f"{place}_{theirs}_layernorm": f"{ours}_{name}norm"
    for theirs, ours in (("self_attn", "attn"), ("feedforward", "ffn"))
    for place, name in (("pre", ""), ("post", "out_"))
}
CROSS = {f"cross_attn.{name}_proj": f"cross_attn.{name}_proj" for name in "qkvo"}
CROSS |= {"pre_cross_attn_layernorm": "cross_norm", "post_cross_attn_layernorm": "cross_out_norm"}
ENDS = {f"model.{tower}.embed_tokens": f"{tower}.embed" for tower in TOWERS}
ENDS |= {f"model.{tower}.norm": f"{tower}.final_norm" for tower in TOWERS}
OWN = ATTENTION | GLU | SANDWICH

T5GEMMA = Family(
    name="t5gemma",
    architecture="T5GemmaForConditionalGeneration",
    parts=(
        Fixed({"kind": "encoder_decoder", "share_embedding": False}),
        Field("vocab_size", "vocab_size", 256_000),  # nothing computes with it: what the halves say comes after it
        Halves(ENCODER, DECODER),
        Field("head.tied", "tie_word_embeddings", True),
        Only("is_encoder_decoder", (True,), "an encoder alone predicts no tokens"),
    ),
    rows=(
        *modules("", ENDS | {"lm_head.out_proj": "head"}, ""),
        *modules("model.encoder.layers.{layer}.", OWN, "encoder.stack.layers.{layer}."),
        *modules("model.decoder.layers.{layer}.", OWN | CROSS, "decoder.stack.layers.{layer}."),
    ),
    prefix="model.",
    head=("lm_head.out_proj.weight", "model.decoder.embed_tokens.weight"),
    harmless="dropout_rate classifier_dropout_rate",
    null_ids=(),
    documents=TOWERS,
)
