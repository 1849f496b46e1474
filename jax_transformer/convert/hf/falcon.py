"""Falcon: grouped fused heads, branches parallel or not."""

from typing import Any

from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.depth import Context, Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Field, Keys, Only
from jax_transformer.convert.hf.skeleton import DECODER, QKV, Quotient, feed_forward, fused, layer_norm, modules, wide

LAYER = "transformer.h.{layer}."
ENDS = {"transformer.word_embeddings": "embed", "transformer.ln_f": "final_norm", "lm_head": "head"}
ONE = {"input_layernorm": "attn_norm"}
AFTER = {"post_attention_layernorm": "ffn_norm"}
TWO = {"ln_attn": "attn_norm", "ln_mlp": "ffn_norm"}
BRANCHES = "layers.{layer}.parallel"


class Heads:
    """Key/value heads and branches: ``new_decoder_architecture`` groups heads, else ``multi_query`` has one or all of them."""

    def read(self, hf: Keys) -> Flat:
        """Both, from five keys."""
        multi = hf.get("multi_query", True)
        new, heads = hf.get("new_decoder_architecture", False), hf.get(("num_attention_heads", "n_head"))
        grouped = hf.get(("num_kv_heads", "n_head_kv"), heads)
        norms = hf.get("num_ln_in_parallel_attn", 2 if new else 1)
        parallel = hf.get("parallel_attn", True) or new
        return {
            "layer.attention.num_kv_heads": grouped if new else 1 if multi else heads,
            "layer.parallel": None if not parallel else "separate" if new and norms == 2 else "shared",
        }

    def write(self, flat: Flat) -> dict[str, Any]:
        """The old architecture where it says it, the new one elsewhere."""
        heads, grouped = flat["layers.0.attention.num_heads"], flat["layers.0.attention.num_kv_heads"]
        parallel = flat.get("layers.0.parallel")
        new = parallel == "separate" or (parallel == "shared" and grouped not in (1, heads))
        return {
            "new_decoder_architecture": new,
            "num_kv_heads": grouped,
            "multi_query": grouped == 1,
            "parallel_attn": parallel is not None,
            "num_ln_in_parallel_attn": (2 if parallel == "separate" else 1) if new else None,
        }


FALCON = Family(
    name="falcon",
    architecture="FalconForCausalLM",
    parts=(
        DECODER,
        Field("vocab_size", "vocab_size"),
        Field("d_model", ("hidden_size", "n_embed")),
        Field("stack.num_layers", ("num_hidden_layers", "n_layer")),
        Field("layer.attention.num_heads", ("num_attention_heads", "n_head")),
        Quotient(),
        Heads(),
        Field("layer.ffn.hidden_dim", "ffn_hidden_size", wide),
        Field("head.tied", "tie_word_embeddings", True),
        Context(2048),
        *layer_norm("layer_norm_epsilon", 1e-5),
        *feed_forward("mlp", "gelu", "activation"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias", "layer.ffn.bias"), "bias", False),
        Only("alibi", (False,), "Falcon scales the biases by the root of the head's width"),
        Rope(),
    ),
    rows=(
        *modules("", ENDS, ""),
        *modules(LAYER, ONE, when=(BRANCHES, (None, "shared"))),
        *modules(LAYER, AFTER, when=(BRANCHES, (None,))),
        *modules(LAYER, TWO, when=(BRANCHES, ("separate",))),
        *modules(LAYER, {"self_attention.dense": "attn.o_proj"}),
        *modules(LAYER, {"mlp.dense_h_to_4h": "ffn.up_proj", "mlp.dense_4h_to_h": "ffn.down_proj"}),
        *fused(f"{LAYER}self_attention.query_key_value", QKV, Fuse("layers.{layer}.attention.num_kv_heads")),
    ),
    prefix="transformer.",
    head=("lm_head.weight", "transformer.word_embeddings.weight"),
    harmless="apply_residual_connection_post_layernorm",
)
