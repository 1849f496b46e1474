"""Code World Model: Llama with a window on three layers of four, the first of each group full."""

from jax_transformer.convert.hf.depth import FULL, SLIDING, Rope, Window
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Keys
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, feed_forward, rms, sizes


def first_full(hf: Keys, count: int) -> list[str]:
    """Every fourth layer is full, beginning with the first."""
    return [SLIDING if layer % 4 else FULL for layer in range(count)]


CWM = Family(
    name="cwm",
    architecture="CwmForCausalLM",
    parts=(
        DECODER,
        *sizes(131072, head_dim=128, kv_heads=8),
        *rms(1e-5),
        *feed_forward("glu", "silu"),
        Field("layer.ffn.bias", "mlp_bias", False),
        Window(first_full, 8192),
        Rope(1_000_000.0),
    ),
    rows=LLAMA_ROWS,
    harmless="attention_bias",
    null_ids=("eos_token_id", "pad_token_id"),
)
