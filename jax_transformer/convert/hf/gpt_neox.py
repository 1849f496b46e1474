"""GPT-NeoX and Pythia: a norm for each of two parallel branches, heads fused one by one."""

from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed, switch
from jax_transformer.convert.hf.skeleton import DECODER, QKV, feed_forward, fused, layer_norm, modules, sizes
from jax_transformer.convert.rows import Drop

LAYER = "gpt_neox.layers.{layer}."
NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "attention.dense": "attn.o_proj",
    "mlp.dense_h_to_4h": "ffn.up_proj",
    "mlp.dense_4h_to_h": "ffn.down_proj",
}

GPT_NEOX = Family(
    name="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    parts=(
        DECODER,
        *sizes(2048, kv_heads=None, own_head_dim=False),
        *layer_norm("layer_norm_eps", 1e-5),
        *feed_forward("mlp", "gelu"),
        Fixed({"layer.ffn.bias": True}),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", True),
        switch("use_parallel_residual", True, {"layer.parallel": "separate"}),
        Rope(fraction=0.25, keys=(("rope_theta", "rotary_emb_base"), ("rotary_pct", "partial_rotary_factor"))),
    ),
    rows=(
        *modules("", {"gpt_neox.embed_in": "embed", "gpt_neox.final_layer_norm": "final_norm", "embed_out": "head"}, ""),
        *modules(LAYER, NAMES),
        *fused(f"{LAYER}attention.query_key_value", QKV, Fuse("layers.{layer}.attention.num_heads")),
    ),
    drops=tuple(Drop(f"{LAYER}attention.{name}", "a buffer") for name in ("bias", "masked_bias", "rotary_emb.inv_freq")),
    prefix="gpt_neox.",
    head=("embed_out.weight", "gpt_neox.embed_in.weight"),
    harmless="is_decoder",
)
