"""Further families: hybrids of softmax attention and gated delta rules, and what came later."""

from typing import Any

from parity_tests.hf.bases import SMALL, TIED

DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 5}
FULL, LINEAR = "full_attention", "linear_attention"
HALF = {"head_dim": 12, "partial_rotary_factor": 0.5}

MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_5": ("qwen3_5_text", SMALL | DELTA | HALF | {"num_hidden_layers": 5}),
    "qwen3_5, tied": (
        "qwen3_5_text",
        SMALL
        | TIED
        | {"head_dim": 16, "num_key_value_heads": 1, "layer_types": [FULL, LINEAR, FULL], "rms_norm_eps": 1e-3}
        | DELTA
        | {"linear_num_value_heads": 2, "linear_conv_kernel_dim": 2},
    ),
    "qwen3_5, one type": ("qwen3_5_text", SMALL | {"head_dim": 8, "layer_types": [FULL] * 3}),
    "olmo_hybrid": ("olmo_hybrid", SMALL | DELTA | {"num_hidden_layers": 5}),
    "olmo_hybrid, no rotation": (
        "olmo_hybrid",
        SMALL
        | DELTA
        | TIED
        | {"rope_theta": None, "linear_allow_neg_eigval": False, "attention_bias": True, "num_key_value_heads": 1},
    ),
    "olmo_hybrid, defaults": (
        "olmo_hybrid",
        SMALL | {"layer_types": [FULL, LINEAR, LINEAR], "linear_conv_kernel_dim": 3, "rms_norm_eps": 1e-3},
    ),
}
