"""OPT: learned positions from row 2, ReLU; norms before the branches or, in the smallest, after."""

from jax_transformer.convert.hf.depth import Context
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Choice, Equal, Field, Fixed, Only
from jax_transformer.convert.hf.skeleton import DECODER, Quotient, feed_forward, modules

LAYER = "model.decoder.layers.{layer}."
ENDS = {
    "model.decoder.embed_tokens": "embed",
    "model.decoder.embed_positions": "inputs.positions.table",
    "model.decoder.final_layer_norm": "final_norm",
    "lm_head": "head",
}
NAMES = {f"self_attn.{name}_proj": f"attn.{name}_proj" for name in "qkv"} | {
    "self_attn.out_proj": "attn.o_proj",
    "fc1": "ffn.up_proj",
    "fc2": "ffn.down_proj",
}
NORM = {"kind": "layer_norm", "eps": 1e-5}

OPT = Family(
    name="opt",
    architecture="OPTForCausalLM",
    parts=(
        DECODER,
        Field("vocab_size", "vocab_size"),
        Field("d_model", "hidden_size"),
        Field("stack.num_layers", "num_hidden_layers"),
        Field("layer.attention.num_heads", "num_attention_heads"),
        Quotient(),
        Field("layer.ffn.hidden_dim", "ffn_dim"),
        Field("head.tied", "tie_word_embeddings", True),
        Context(2048),
        *feed_forward("mlp", "relu", "activation_function"),
        Fixed({f"layer.norm.{key}": value for key, value in NORM.items()} | {"layer.attention.position.kind": "none"}),
        Fixed({"embedding.position.kind": "learned", "embedding.position.offset": 2}),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias", "layer.ffn.bias"), "enable_bias", True),
        Choice(
            "do_layer_norm_before",
            True,
            {
                True: {"layer.placement": "pre", "final_norm.kind": "layer_norm", "final_norm.eps": 1e-5},
                False: {"layer.placement": "post"},
            },
        ),
        Equal("word_embed_proj_dim", "hidden_size", "positions are added before the projection here, after it in OPT"),
        Only("_remove_final_layer_norm", (False,), "pre norms without a final norm"),
        Only("layer_norm_elementwise_affine", (True,), "norms without parameters"),
    ),
    rows=(
        *modules("", ENDS, ""),
        *modules(LAYER, NAMES),
        *modules(LAYER, {"self_attn_layer_norm": "attn_norm", "final_layer_norm": "ffn_norm"}),
        *modules(LAYER, {"self_attn_layer_norm": "attn_sum_norm", "final_layer_norm": "ffn_sum_norm"}),
    ),
    prefix="model.",
    head=("lm_head.weight", "model.decoder.embed_tokens.weight"),
    harmless="prefix activation_dropout",
)
