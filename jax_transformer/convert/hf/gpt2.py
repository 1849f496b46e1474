"""GPT-2: learned positions, layer norms, one fused projection; its matrices are stored [in, out]."""

from jax_transformer.convert.byte_ops import Chain, Fuse, Transpose
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Fixed, Only
from jax_transformer.convert.hf.skeleton import QKV, feed_forward, fused, gpt_sizes, layer_norm, modules
from jax_transformer.convert.rows import Drop

LAYER = "transformer.h.{layer}."
MATRICES = {"attn.c_proj": "attn.o_proj", "mlp.c_fc": "ffn.up_proj", "mlp.c_proj": "ffn.down_proj"}
ENDS = modules("", {"transformer.wte": "embed", "transformer.ln_f": "final_norm", "lm_head": "head"}, "")
POSITIONS = modules("", {"transformer.wpe": "inputs.positions.table"}, "")
NORMS = modules(LAYER, {"ln_1": "attn_norm", "ln_2": "ffn_norm"})

FIXED = Fixed(
    {
        "embedding.position.kind": "learned",
        "layer.attention.position.kind": "none",
        "layer.attention.qkv_bias": True,
        "layer.attention.o_bias": True,
        "layer.ffn.bias": True,
    }
)

GPT2 = Family(
    name="gpt2",
    architecture="GPT2LMHeadModel",
    parts=(
        *gpt_sizes(tied=True),
        *layer_norm("layer_norm_epsilon", 1e-5),
        *feed_forward("mlp", "gelu_new", "activation_function"),
        FIXED,
        Only("scale_attn_weights", (True,), "scores are scaled by the root of the head's width"),
        Only("scale_attn_by_inverse_layer_idx", (False,), "layers would need a scale each"),
        Only("add_cross_attention", (False,), "a decoder has no encoder"),
    ),
    rows=(
        *ENDS,
        *POSITIONS,
        *NORMS,
        *modules(LAYER, MATRICES, op=Transpose()),
        *fused(f"{LAYER}attn.c_attn", QKV, Chain((Fuse(), Transpose()))),
    ),
    drops=tuple(Drop(f"{LAYER}attn.{name}", "the causal mask") for name in ("bias", "masked_bias")),
    prefix="transformer.",
    head=("lm_head.weight", "transformer.wte.weight"),
    harmless=(
        "reorder_and_upcast_attn n_ctx summary_type summary_use_proj summary_activation "
        "summary_proj_to_labels summary_first_dropout"
    ),
)
