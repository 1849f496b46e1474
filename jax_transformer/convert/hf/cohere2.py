"""Command R7B: Command R whose full layers do not rotate."""

from jax_transformer.convert.hf.cohere import PARTS, ROWS
from jax_transformer.convert.hf.depth import FULL, Rope, Window, every_full
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.skeleton import DECODER, sizes

WINDOW = Window(every_full(4, ("sliding_window_pattern", "_sliding_window_pattern")), 4096)

COHERE2 = Family(
    name="cohere2",
    architecture="Cohere2ForCausalLM",
    parts=(
        DECODER,
        *sizes(8192, tied=True),
        *PARTS,
        WINDOW,
        Rope(window=WINDOW, still=FULL, layout="interleaved"),
    ),
    rows=ROWS,
    harmless="cache_implementation",
)
