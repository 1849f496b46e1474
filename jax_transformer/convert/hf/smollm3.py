"""SmolLM 3: Llama in which some layers do not rotate."""

from jax_transformer.convert.hf.depth import FULL, SLIDING, Rope, Window, turning_layers
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Keys
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, feed_forward, rms, sizes


def still_sliding(hf: Keys, count: int) -> list[str]:
    """The layers that do not rotate have the window."""
    return [FULL if turns else SLIDING for turns in turning_layers(hf, count)]


SMOLLM3 = Family(
    name="smollm3",
    architecture="SmolLM3ForCausalLM",
    parts=(
        DECODER,
        *sizes(32768, kv_heads=4, tied=True),
        *rms(1e-6),
        *feed_forward("glu", "silu"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Field("layer.ffn.bias", "mlp_bias", False),
        Window(still_sliding, flag="use_sliding_window"),
        Rope(2_000_000.0, still="no_rope_layers"),
    ),
    rows=LLAMA_ROWS,
)
