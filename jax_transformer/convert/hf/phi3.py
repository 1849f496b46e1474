"""Phi 3 and 4: fused projections, LongRoPE, partial rotation."""

from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.depth import Rope, Window, all_sliding
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Only
from jax_transformer.convert.hf.skeleton import DECODER, ENDS, LAYER, PRE, QKV, ROTARY, feed_forward, fused, modules, rms, sizes

GATE_UP = fused(f"{LAYER}mlp.gate_up_proj", ("ffn.gate_proj", "ffn.up_proj"), Fuse())

PHI3 = Family(
    name="phi3",
    architecture="Phi3ForCausalLM",
    parts=(
        DECODER,
        *sizes(4096),
        *rms(1e-5),
        *feed_forward("glu", "silu"),
        Window(all_sliding, listed=False),
        *(Only(key, (False,), "this family has no biases") for key in ("attention_bias", "mlp_bias", "lm_head_bias")),
        *(Only(key, (1,), "transformers does not read it") for key in ("full_attn_mod", "interpolate_factor")),
        Rope(fraction=1.0),
    ),
    rows=(
        *ENDS,
        *modules(LAYER, PRE | {"self_attn.o_proj": "attn.o_proj", "mlp.down_proj": "ffn.down_proj"}),
        *fused(f"{LAYER}self_attn.qkv_proj", QKV, Fuse()),
        *GATE_UP,
    ),
    drops=ROTARY,
)
