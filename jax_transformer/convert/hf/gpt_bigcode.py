"""StarCoder 1: GPT-2 with one key/value head, its matrices stored [out, in]."""

from typing import Any

from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.gpt2 import ENDS, FIXED, LAYER, MATRICES, NORMS, POSITIONS
from jax_transformer.convert.hf.parts import Keys, Only
from jax_transformer.convert.hf.skeleton import QKV, feed_forward, fused, gpt_sizes, layer_norm, modules
from jax_transformer.convert.rows import Drop


class MultiQuery:
    """``multi_query``: one key/value head, or one for every query head."""

    def read(self, hf: Keys) -> Flat:
        """The number of key/value heads."""
        heads = hf.get(("n_head", "num_attention_heads"))
        return {"layer.attention.num_kv_heads": 1 if hf.get("multi_query", True) else heads}

    def write(self, flat: Flat) -> dict[str, Any]:
        """Whether it is one."""
        return {"multi_query": flat["layers.0.attention.num_kv_heads"] == 1}


GPT_BIGCODE = Family(
    name="gpt_bigcode",
    architecture="GPTBigCodeForCausalLM",
    parts=(
        *gpt_sizes(tied=True),
        MultiQuery(),
        *layer_norm("layer_norm_epsilon", 1e-5),
        *feed_forward("mlp", "gelu_pytorch_tanh", "activation_function"),
        FIXED,
        Only("scale_attn_weights", (True,), "scores are scaled by the root of the head's width"),
        Only("add_cross_attention", (False,), "a decoder has no encoder"),
    ),
    rows=(
        *ENDS,
        *POSITIONS,
        *NORMS,
        *modules(LAYER, MATRICES),
        *fused(f"{LAYER}attn.c_attn", QKV, Fuse("layers.{layer}.attention.num_kv_heads")),
    ),
    drops=tuple(Drop(f"{LAYER}attn.{name}", "the causal mask") for name in ("bias", "masked_bias")),
    prefix="transformer.",
    head=("lm_head.weight", "transformer.wte.weight"),
    harmless="attention_softmax_in_fp32 scale_attention_softmax_in_fp32 num_key_value_heads summary_type summary_use_proj "
    "summary_activation summary_proj_to_labels summary_first_dropout inference_runner max_batch_size max_sequence_length "
    "pad_key_length pre_allocate_kv_cache validate_runner_input",
)
