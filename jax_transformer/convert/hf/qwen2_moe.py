"""Qwen 1.5 and 2 with experts, and one more for every token behind a gate."""

from jax_transformer.convert.hf.depth import FULL, SLIDING, Rope, Window
from jax_transformer.convert.hf.experts import (
    PROJECTIONS,
    TRAINING,
    EveryStep,
    Mixtures,
    dense,
    expert_rows,
    gated_mixture,
    shared_rows,
)
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import Field, Keys
from jax_transformer.convert.hf.skeleton import DECODER, LAYER, LLAMA_ROWS, ROTARY, modules, rms, sizes

MIXTURE = gated_mixture((60, 4, 1408), 5632, renormalized=False)
SHARED = shared_rows("mlp.shared_expert") | {"mlp.shared_expert_gate": "ffn.shared_gate_proj", "mlp.gate": "ffn.router"}


def every_other(hf: Keys, count: int) -> list[str]:
    """Every other layer below ``max_window_layers`` has the window."""
    limit = hf.get("max_window_layers", 28)
    return [FULL if layer % 2 or layer >= limit else SLIDING for layer in range(count)]


QWEN2_MOE = Family(
    name="qwen2_moe",
    architecture="Qwen2MoeForCausalLM",
    parts=(
        DECODER,
        *sizes(32768, kv_heads=16, hidden=()),
        *rms(1e-6),
        Field("layer.attention.qkv_bias", "qkv_bias", True),
        Mixtures(EveryStep(), MIXTURE, dense(5632)),
        Window(every_other, 4096, flag="use_sliding_window"),
        Rope(),
    ),
    rows=LLAMA_ROWS + modules(LAYER, SHARED) + expert_rows("mlp", PROJECTIONS),
    drops=ROTARY,
    harmless=TRAINING,
)
