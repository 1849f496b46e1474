"""Mixtral: Mistral with a mixture of experts in every layer."""

from jax_transformer.convert.hf.depth import Rope, Window, all_sliding
from jax_transformer.convert.hf.experts import TRAINING, W123, expert_rows, experts, in_memory
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, LAYER, PRE, ROTARY, modules, rms, sizes

MIXTRAL = Family(
    name="mixtral",
    architecture="MixtralForCausalLM",
    parts=(
        DECODER,
        *sizes(131072, kv_heads=8, hidden="layer.ffn.expert.hidden_dim"),
        *rms(1e-5),
        *experts("softmax_top_k", ("num_local_experts", "num_experts"), width="", defaults=(8, 2, None)),
        Window(all_sliding, listed=False),
        Rope(1e6),
    ),
    rows=(
        *ENDS,
        *modules(LAYER, ATTENTION | PRE | {"block_sparse_moe.gate": "ffn.router"}),
        *expert_rows("block_sparse_moe", W123),
        in_memory("mlp.gate.weight", ("router.weight",)),
    ),
    drops=ROTARY,
    harmless=TRAINING,
)
