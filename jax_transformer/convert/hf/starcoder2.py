"""StarCoder 2: layer norms, a plain feed-forward network, biases, a window."""

from jax_transformer.convert.hf.depth import Rope, Window, all_sliding
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field
from jax_transformer.convert.hf.skeleton import (
    ATTENTION,
    DECODER,
    ENDS,
    LAYER,
    PRE,
    ROTARY,
    feed_forward,
    layer_norm,
    modules,
    sizes,
)

STARCODER2 = Family(
    name="starcoder2",
    architecture="Starcoder2ForCausalLM",
    parts=(
        DECODER,
        *sizes(4096, kv_heads=2, tied=True),
        *layer_norm("norm_epsilon", 1e-5),
        *feed_forward("mlp", "gelu_pytorch_tanh"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias", "layer.ffn.bias"), "use_bias", True),
        Window(all_sliding, listed=False),
        Rope(),
    ),
    rows=ENDS + modules(LAYER, ATTENTION | PRE | {"mlp.c_fc": "ffn.up_proj", "mlp.c_proj": "ffn.down_proj"}),
    drops=ROTARY,
    harmless="activation_function attention_softmax_in_fp32 scale_attention_softmax_in_fp32 mlp_type norm_type",
)
