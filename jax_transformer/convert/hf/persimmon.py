"""Persimmon: heads fused one by one, layer norms on queries and keys, squared ReLU."""

from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed, switch
from jax_transformer.convert.hf.skeleton import (
    DECODER,
    LAYER,
    PRE,
    QKV,
    ROTARY,
    feed_forward,
    fused,
    layer_norm,
    modules,
    sizes,
)

ENDS = {"model.embed_tokens": "embed", "model.final_layernorm": "final_norm", "lm_head": "head"}
NAMES = {
    "self_attn.dense": "attn.o_proj",
    "self_attn.q_layernorm": "attn.q_norm",
    "self_attn.k_layernorm": "attn.k_norm",
    "mlp.dense_h_to_4h": "ffn.up_proj",
    "mlp.dense_4h_to_h": "ffn.down_proj",
}
BIASES = ("layer.attention.qkv_bias", "layer.attention.o_bias", "layer.ffn.bias")

PERSIMMON = Family(
    name="persimmon",
    architecture="PersimmonForCausalLM",
    parts=(
        DECODER,
        *sizes(16384, kv_heads=None, own_head_dim=False),
        *layer_norm("layer_norm_eps", 1e-5),
        *feed_forward("mlp", "relu2"),
        Fixed(dict.fromkeys(BIASES, True)),
        Field("layer.attention.qk_norm.norm.eps", "layer_norm_eps", 1e-5),
        switch(
            "qk_layernorm",
            True,
            {"layer.attention.qk_norm.norm.kind": "layer_norm", "layer.attention.qk_norm.scope": "head"},
            {"layer.attention.qk_norm": None},
        ),
        Rope(fraction=0.5),
    ),
    rows=(
        *modules("", ENDS, ""),
        *modules(LAYER, PRE | NAMES),
        *fused(f"{LAYER}self_attn.query_key_value", QKV, Fuse("layers.{layer}.attention.num_heads")),
    ),
    drops=ROTARY,
)
