"""CodeGen: GPT-J with one fused projection, in four groups of queries, values and keys."""

from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.gpt2 import ENDS, LAYER
from jax_transformer.convert.hf.gptj import BUFFERS, HARMLESS, PARTS
from jax_transformer.convert.hf.skeleton import fused, modules
from jax_transformer.convert.rows import Drop

NAMES = {"attn.out_proj": "attn.o_proj", "ln_1": "attn_norm", "mlp.fc_in": "ffn.up_proj", "mlp.fc_out": "ffn.down_proj"}

CODEGEN = Family(
    name="codegen",
    architecture="CodeGenForCausalLM",
    parts=PARTS,
    rows=(
        *ENDS,
        *modules(LAYER, NAMES),
        *fused(f"{LAYER}attn.qkv_proj", ("attn.q_proj", "attn.v_proj", "attn.k_proj"), Fuse(4)),
    ),
    drops=tuple(Drop(f"{LAYER}attn.{name}", "a buffer") for name in (*BUFFERS, "causal_mask")),
    prefix="transformer.",
    head=("lm_head.weight", "transformer.wte.weight"),
    harmless=HARMLESS,
)
