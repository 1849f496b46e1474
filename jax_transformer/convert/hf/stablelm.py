"""StableLM 2: layer norms, a quarter of each head rotates; branches parallel or not, a norm for each head or none."""

from jax_transformer.convert.byte_ops import Stack
from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, switch
from jax_transformer.convert.hf.skeleton import DECODER, LAYER, LLAMA_ROWS, OURS, ROTARY, feed_forward, layer_norm, sizes
from jax_transformer.convert.rows import Row

QK = {"scope": "own_heads", "norm.kind": "layer_norm", "norm.bias": False}

STABLELM = Family(
    name="stablelm",
    architecture="StableLmForCausalLM",
    parts=(
        DECODER,
        *sizes(4096, kv_heads=32, own_head_dim=False),
        *layer_norm("layer_norm_eps", 1e-5),
        *feed_forward("glu", "silu"),
        Field("layer.attention.qkv_bias", "use_qkv_bias", False),
        Field("layer.attention.qk_norm.norm.eps", "layer_norm_eps", 1e-5),
        switch(
            "qk_layernorm",
            False,
            {f"layer.attention.qk_norm.{key}": value for key, value in QK.items()},
            {"layer.attention.qk_norm": None},
        ),
        switch("use_parallel_residual", False, {"layer.parallel": "shared"}),
        Rope(fraction=0.25),
    ),
    rows=(
        *LLAMA_ROWS,
        *(
            Row(f"{LAYER}self_attn.{name}_layernorm.norms.{{expert}}.weight", (f"{OURS}attn.{name}_norm.weight",), Stack())
            for name in "qk"
        ),
    ),
    drops=ROTARY,
)
