"""MPT: ALiBi, norms without biases, one fused projection; what concerns attention is nested."""

from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Field, Fixed, Keys, Only
from jax_transformer.convert.hf.skeleton import DECODER, QKV, fused, layer_norm, modules

LAYER = "transformer.blocks.{layer}."
NAMES = {
    "norm_1": "attn_norm",
    "norm_2": "ffn_norm",
    "attn.out_proj": "attn.o_proj",
    "ffn.up_proj": "ffn.up_proj",
    "ffn.down_proj": "ffn.down_proj",
}
ENDS = {"transformer.wte": "embed", "transformer.norm_f": "final_norm", "lm_head": "head"}
FIXED = {"alibi": True, "qk_ln": False, "prefix_lm": False, "attn_uses_sequence_id": False, "attn_type": "multihead_attention"}


class AttnConfig:
    """``attn_config`` and the widths that need a product."""

    def read(self, hf: Keys) -> Flat:
        """ALiBi, clip and scale; head and feed-forward widths."""
        own = hf.get("attn_config", {})
        for key, value in FIXED.items():
            if own.get(key, value) != value:
                raise ConfigError(f"{hf.label}: attn_config.{key}={own[key]!r} cannot be expressed; wanted {value!r}")
        return {
            "layer.attention.position.kind": "alibi",
            "layer.attention.position.max_bias": own.get("alibi_bias_max", 8),
            "layer.attention.clip_qkv": own.get("clip_qkv"),
            "layer.attention.scale": own.get("softmax_scale"),
            "layer.attention.head_dim": hf.get("d_model") // hf.get("n_heads"),
            "layer.ffn.hidden_dim": 4 * hf.get("d_model"),
        }

    def write(self, flat: Flat) -> dict[str, Any]:
        """The same, nested."""
        scale, width = flat["layers.0.attention.scale"], flat["layers.0.attention.head_dim"]
        bias = flat["layers.0.attention.position.max_bias"]
        own = {"alibi_bias_max": int(bias) if bias == int(bias) else bias, "clip_qkv": flat.get("layers.0.attention.clip_qkv")}
        own["softmax_scale"] = None if scale == width**-0.5 else scale
        return {"attn_config": FIXED | own}


MPT = Family(
    name="mpt",
    architecture="MptForCausalLM",
    parts=(
        DECODER,
        Field("vocab_size", "vocab_size"),
        Field("d_model", "d_model"),
        Field("stack.num_layers", "n_layers"),
        Field("layer.attention.num_heads", "n_heads"),
        Field("max_length", "max_seq_len", 2048),
        Field("head.tied", "tie_word_embeddings", True),
        AttnConfig(),
        *layer_norm("layer_norm_epsilon", 1e-5, bias=False),
        Fixed({"layer.ffn.kind": "mlp", "layer.ffn.activation": "gelu_erf"}),
        Only("expansion_ratio", (4,), "transformers does not read it and has 4"),
        Only("no_bias", (True,), "transformers builds no biases"),
        Only("logit_scale", (None,), "transformers does not read it"),
    ),
    rows=(
        *modules("", ENDS, ""),
        *modules(LAYER, NAMES),
        *fused(f"{LAYER}attn.Wqkv", QKV, Fuse()),
    ),
    prefix="transformer.",
    head=("lm_head.weight", "transformer.wte.weight"),
    harmless="emb_pdrop embedding_fraction init_device learned_pos_emb norm_type verbose init_config",
)
