"""Phi 1 and 2: parallel branches after one norm, biases everywhere, half of each head rotates."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Fixed, switch
from jax_transformer.convert.hf.skeleton import DECODER, LAYER, ROTARY, feed_forward, layer_norm, modules, sizes

ENDS = {"model.embed_tokens": "embed", "model.final_layernorm": "final_norm", "lm_head": "head"}
NAMES = {f"self_attn.{name}_proj": f"attn.{name}_proj" for name in "qkv"} | {
    "self_attn.dense": "attn.o_proj",
    "self_attn.q_layernorm": "attn.q_norm",
    "self_attn.k_layernorm": "attn.k_norm",
    "input_layernorm": "attn_norm",
    "mlp.fc1": "ffn.up_proj",
    "mlp.fc2": "ffn.down_proj",
}
BIASES = ("layer.attention.qkv_bias", "layer.attention.o_bias", "layer.ffn.bias", "head.bias")

PHI = Family(
    name="phi",
    architecture="PhiForCausalLM",
    parts=(
        DECODER,
        *sizes(2048),
        *layer_norm("layer_norm_eps", 1e-5),
        *feed_forward("mlp", "gelu_new"),
        Fixed(dict.fromkeys(BIASES, True) | {"layer.parallel": "shared"}),
        Field("layer.attention.qk_norm.norm.eps", "layer_norm_eps", 1e-5),
        switch(
            "qk_layernorm",
            False,
            {"layer.attention.qk_norm.norm.kind": "layer_norm", "layer.attention.qk_norm.scope": "head"},
            {"layer.attention.qk_norm": None},
        ),
        Rope(fraction=0.5),
    ),
    rows=modules("", ENDS, "") + modules(LAYER, NAMES),
    drops=ROTARY,
)
