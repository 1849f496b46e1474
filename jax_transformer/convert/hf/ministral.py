"""Ministral: Mistral with a window on the layers that it lists."""

from jax_transformer.convert.hf.depth import Rope, Window, all_sliding
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, feed_forward, rms, sizes

MINISTRAL = Family(
    name="ministral",
    architecture="MinistralForCausalLM",
    parts=(
        DECODER,
        *sizes(131072, kv_heads=8),
        *rms(1e-6),
        *feed_forward("glu", "silu"),
        Window(all_sliding, 4096),
        Rope(),
    ),
    rows=LLAMA_ROWS,
)
