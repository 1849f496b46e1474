"""Mistral: Llama with a window on every layer."""

from jax_transformer.convert.hf.depth import Rope, Window, all_sliding
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, ROTARY, feed_forward, rms, sizes

MISTRAL = Family(
    name="mistral",
    architecture="MistralForCausalLM",
    parts=(
        DECODER,
        *sizes(131072, kv_heads=8),
        *rms(1e-6),
        *feed_forward("glu", "silu"),
        Window(all_sliding, 4096, listed=False),
        Rope(),
    ),
    rows=LLAMA_ROWS,
    drops=ROTARY,
)
