"""Phi 3 and 4: fused projections, LongRoPE, partial rotation."""

from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.depth import Rope, Window, all_sliding
from jax_transformer.convert.hf.family import Family
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
