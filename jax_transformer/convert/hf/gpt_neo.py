"""GPT-Neo: GPT-2 without a scale on the scores, a window on some layers."""

from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.gpt2 import ENDS, LAYER, NORMS, POSITIONS
from jax_transformer.convert.hf.parts import Field, Fixed, Keys
from jax_transformer.convert.hf.skeleton import DECODER, feed_forward, layer_norm, modules, wide
from jax_transformer.convert.rows import Drop

NAMES = {f"attn.attention.{name}_proj": f"attn.{name}_proj" for name in "qkv"} | {
    "attn.attention.out_proj": "attn.o_proj",
    "mlp.c_fc": "ffn.up_proj",
    "mlp.c_proj": "ffn.down_proj",
}


class Heads:
    """Width of a head: the quotient."""

    def read(self, hf: Keys) -> Flat:
        """The quotient."""
        return {"layer.attention.head_dim": hf.get("hidden_size") // hf.get("num_heads")}

    def write(self, flat: Flat) -> dict[str, Any]:
        """No key says it."""
        return {}


class AttentionTypes:
    """``attention_types``, ``[[["global", "local"], repeats], ...]``, and the window of the local ones."""

    def read(self, hf: Keys) -> Flat:
        """The window of each layer."""
        groups = hf.get("attention_types", [[["global", "local"], hf.layers("num_layers") // 2]])
        types = [kind for group, repeats in groups for kind in group * repeats]
        if len(types) != hf.layers("num_layers") or not set(types) <= {"global", "local"}:
            raise ConfigError(f"{hf.label}: attention_types={groups}: wanted a type, global or local, for each layer")
        window = hf.get("window_size", 256)
        return {f"layers.{i}.attention.window": window if kind == "local" else None for i, kind in enumerate(types)}

    def write(self, flat: Flat) -> dict[str, Any]:
        """One group of one repeat."""
        windows = [flat.get(f"layers.{i}.attention.window") for i in range(flat["stack.num_layers"])]
        types = ["global" if window is None else "local" for window in windows]
        return {"attention_types": [[types, 1]], "window_size": next((own for own in windows if own is not None), 256)}


GPT_NEO = Family(
    name="gpt_neo",
    architecture="GPTNeoForCausalLM",
    parts=(
        DECODER,
        Field("vocab_size", "vocab_size"),
        Field("d_model", "hidden_size"),
        Field("stack.num_layers", "num_layers"),
        Field("layer.attention.num_heads", "num_heads"),
        Heads(),
        Field("layer.ffn.hidden_dim", "intermediate_size", wide),
        Field("head.tied", "tie_word_embeddings", True),
        Field("max_length", "max_position_embeddings", 2048),
        *layer_norm("layer_norm_epsilon", 1e-5),
        *feed_forward("mlp", "gelu_new", "activation_function"),
        Fixed({"embedding.position.kind": "learned", "layer.attention.position.kind": "none"}),
        Fixed({"layer.attention.scale": 1.0, "layer.attention.o_bias": True, "layer.ffn.bias": True}),
        AttentionTypes(),
    ),
    rows=ENDS + POSITIONS + NORMS + modules(LAYER, NAMES),
    drops=tuple(Drop(f"{LAYER}attn.attention.{name}", "the causal mask") for name in ("bias", "masked_bias")),
    prefix="transformer.",
    head=("lm_head.weight", "transformer.wte.weight"),
    harmless="attention_layers embed_dropout resid_dropout summary_type summary_use_proj summary_activation "
    "summary_proj_to_labels summary_first_dropout",
)
