"""OLMo 3: OLMo 2 with a window on three layers of four."""

from jax_transformer.convert.hf.depth import FULL, SLIDING, Rope, Window, every_full
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.olmo2 import PARTS, ROWS

WINDOW = Window(every_full(4), 4096)

OLMO3 = Family(
    name="olmo3",
    architecture="Olmo3ForCausalLM",
    parts=(*PARTS, WINDOW, Rope(window=WINDOW, thetas={FULL: 500_000.0, SLIDING: 500_000.0})),
    rows=ROWS,
)
