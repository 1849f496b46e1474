"""EXAONE 4: norms on the branches' outputs, normalised queries and keys; full layers among sliding ones do not rotate."""

from jax_transformer.convert.hf.depth import FULL, Rope, Window, every_full
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.olmo2 import ROWS
from jax_transformer.convert.hf.parts import Fixed
from jax_transformer.convert.hf.skeleton import DECODER, feed_forward, rms, sizes

WINDOW = Window(every_full(4, "sliding_window_pattern"), 4096)

EXAONE4 = Family(
    name="exaone4",
    architecture="Exaone4ForCausalLM",
    parts=(
        DECODER,
        *sizes(2048),
        *rms(1e-5, "before_weight", "scale", "layer.attention.qk_norm.norm"),
        *feed_forward("glu", "silu"),
        Fixed({"layer.placement": "output", "layer.attention.qk_norm.scope": "head"}),
        WINDOW,
        Rope(window=WINDOW, still=FULL, still_alone=False),
    ),
    rows=ROWS,
)
