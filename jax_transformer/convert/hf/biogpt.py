"""BioGPT and XGLM: embeddings times the root of the width; learned positions, or sinusoids, from row 2."""

from typing import Any

from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Field, Fixed, Keys, Only, Part
from jax_transformer.convert.hf.skeleton import DECODER, feed_forward, modules
from jax_transformer.convert.rows import Row

NAMES = {f"self_attn.{name}_proj": f"attn.{name}_proj" for name in "qkv"} | {
    "self_attn.out_proj": "attn.o_proj",
    "self_attn_layer_norm": "attn_norm",
    "final_layer_norm": "ffn_norm",
    "fc1": "ffn.up_proj",
    "fc2": "ffn.down_proj",
}
BIASES = ("layer.attention.qkv_bias", "layer.attention.o_bias", "layer.ffn.bias")
NORMS = {
    f"{path}.{key}": value for path in ("layer.norm", "final_norm") for key, value in (("kind", "layer_norm"), ("eps", 1e-5))
}


class Heads:
    """Width of a head, by the family's keys, and ``scale_embedding``."""

    def __init__(self, width: str, heads: str):
        self.width, self.heads = width, heads

    def read(self, hf: Keys) -> Flat:
        """The quotient, and the factor on the embeddings."""
        factor = "sqrt_dim" if hf.get("scale_embedding", True) else 1.0
        return {"layer.attention.head_dim": hf.get(self.width) // hf.get(self.heads), "embedding.scale": factor}

    def write(self, flat: Flat) -> dict[str, Any]:
        """Whether there is a factor."""
        return {"scale_embedding": flat["embedding.scale"] != 1.0}


def parts(width: str, layers: str, heads: str, hidden: str, act: str) -> tuple[Part, ...]:
    """What the two have in common, under the keys of each."""
    return (
        DECODER,
        Field("vocab_size", "vocab_size"),
        Field("d_model", width),
        Field("stack.num_layers", layers),
        Field("layer.attention.num_heads", heads),
        Heads(width, heads),
        Field("layer.ffn.hidden_dim", hidden),
        Field("head.tied", "tie_word_embeddings", True),
        Field("max_length", "max_position_embeddings", 1024),
        *feed_forward("mlp", "gelu", act),
        Fixed(NORMS | dict.fromkeys(BIASES, True) | {"layer.attention.position.kind": "none"}),
    )


def rows(prefix: str, head: str) -> tuple[Row, ...]:
    """The tensors of both."""
    ends = {f"{prefix}.embed_tokens": "embed", f"{prefix}.layer_norm": "final_norm", head: "head"}
    ends |= {f"{prefix}.embed_positions": "inputs.positions.table"}
    return modules("", ends, "") + modules(f"{prefix}.layers.{{layer}}.", NAMES)


BIOGPT = Family(
    name="biogpt",
    architecture="BioGptForCausalLM",
    parts=(
        *parts("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
        Fixed({"embedding.position.kind": "learned", "embedding.position.offset": 2}),
    ),
    rows=rows("biogpt", "output_projection"),
    prefix="biogpt.",
    head=("output_projection.weight", "biogpt.embed_tokens.weight"),
    harmless="layer_norm_eps is_decoder",
)

XGLM = Family(
    name="xglm",
    architecture="XGLMForCausalLM",
    parts=(
        *parts("d_model", "num_layers", "attention_heads", "ffn_dim", "activation_function"),
        Fixed(
            {
                "embedding.position.kind": "sinusoidal",
                "embedding.position.layout": "halves",
                "embedding.position.denominator": "half_minus_one",
                "embedding.position.offset": 2,
            }
        ),
        Only("add_cross_attention", (False,), "a decoder has no encoder"),
    ),
    rows=rows("model", "lm_head"),
    prefix="model.",
)
