"""Granite with experts, which are stored as two arrays."""

from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.experts import TRAINING, array_rows, experts, in_memory
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.granite import MULTIPLIERS
from jax_transformer.convert.hf.parts import Field
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, LAYER, OURS, PRE, modules, rms, sizes
from jax_transformer.convert.rows import Row

GATE_UP = (f"{OURS}ffn.experts.gate_proj.weight", f"{OURS}ffn.experts.up_proj.weight")

GRANITEMOE = Family(
    name="granitemoe",
    architecture="GraniteMoeForCausalLM",
    parts=(
        DECODER,
        *sizes(2048, hidden="layer.ffn.expert.hidden_dim"),
        *rms(1e-6),
        *experts("top_k_softmax", "num_local_experts", width="", defaults=(8, 2, None)),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        *MULTIPLIERS,
        Rope(),
    ),
    rows=(
        *ENDS,
        *modules(LAYER, ATTENTION | PRE | {"block_sparse_moe.router.layer": "ffn.router"}),
        Row(f"{LAYER}block_sparse_moe.input_linear.weight", GATE_UP, Fuse(axis=1)),
        Row(f"{LAYER}block_sparse_moe.output_linear.weight", (f"{OURS}ffn.experts.down_proj.weight",)),
        in_memory("block_sparse_moe.router.weight", ("router.weight",)),
        *array_rows("block_sparse_moe"),
    ),
    harmless=TRAINING,
)
