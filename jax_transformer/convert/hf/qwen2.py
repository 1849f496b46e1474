"""Qwen 2 and 2.5: biases on queries, keys and values; a window on the last layers."""

from jax_transformer.convert.hf.depth import Rope, Window, last_sliding
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Fixed, Only
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, ROTARY, feed_forward, rms, sizes

QWEN2 = Family(
    name="qwen2",
    architecture="Qwen2ForCausalLM",
    parts=(
        DECODER,
        *sizes(32768),
        *rms(1e-6),
        *feed_forward("glu", "silu"),
        Fixed({"layer.attention.qkv_bias": True}),
        Window(last_sliding, 4096, flag="use_sliding_window"),
        Only("use_mrope", (False,), "positions in three dimensions are not built"),
        Rope(),
    ),
    rows=LLAMA_ROWS,
    drops=ROTARY,
)
