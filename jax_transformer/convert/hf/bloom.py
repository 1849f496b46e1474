"""BLOOM: ALiBi, a norm after the embedding, heads fused one by one."""

from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed, Only
from jax_transformer.convert.hf.skeleton import DECODER, QKV, Quotient, fused, layer_norm, modules, wide

LAYER = "transformer.h.{layer}."
ENDS = {
    "transformer.word_embeddings": "embed",
    "transformer.word_embeddings_layernorm": "inputs.norm",
    "transformer.ln_f": "final_norm",
    "lm_head": "head",
}
NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attention.dense": "attn.o_proj",
    "mlp.dense_h_to_4h": "ffn.up_proj",
    "mlp.dense_4h_to_h": "ffn.down_proj",
}
BIASES = ("layer.attention.qkv_bias", "layer.attention.o_bias", "layer.ffn.bias")

BLOOM = Family(
    name="bloom",
    architecture="BloomForCausalLM",
    parts=(
        DECODER,
        Field("vocab_size", "vocab_size"),
        Field("d_model", ("hidden_size", "n_embed")),
        Field("stack.num_layers", ("n_layer", "num_hidden_layers")),
        Field("layer.attention.num_heads", ("n_head", "num_attention_heads")),
        Quotient(),
        Field("layer.ffn.hidden_dim", "n_inner", wide),
        Field("head.tied", "tie_word_embeddings", True),
        Field("max_length", "seq_length", 2048),
        *layer_norm("layer_norm_epsilon", 1e-5),
        Field("embedding.norm.eps", "layer_norm_epsilon", 1e-5),
        Fixed({"layer.ffn.kind": "mlp", "layer.ffn.activation": "gelu_tanh", "embedding.norm.kind": "layer_norm"}),
        Fixed({"layer.attention.position.kind": "alibi"} | dict.fromkeys(BIASES, True)),
        Only("apply_residual_connection_post_layernorm", (False,), "the residual stream would be normalised"),
    ),
    rows=(
        *modules("", ENDS, ""),
        *modules(LAYER, NAMES),
        *fused(f"{LAYER}self_attention.query_key_value", QKV, Fuse("layers.{layer}.attention.num_heads")),
    ),
    prefix="transformer.",
    head=("lm_head.weight", "transformer.word_embeddings.weight"),
    harmless=(
        "slow_but_exact unk_token_id masked_softmax_fusion attention_softmax_in_fp32 "
        "bias_dropout_fusion offset_alibi skip_bias_add skip_bias_add_qkv"
    ),
)
