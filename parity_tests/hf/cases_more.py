"""Further families: hybrids of softmax attention and gated delta rules, and what came later."""

from typing import Any

from parity_tests.hf.bases import BART, L0, LAYERS, MODERN, SMALL, T5, TIED, TOKENS, UNTIED, WIDE, YARN, scaled
from parity_tests.hf.cases_experts import without

DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 5}
FULL, LINEAR = "full_attention", "linear_attention"
HALF = {"head_dim": 12, "partial_rotary_factor": 0.5}

MIXTURE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 7, "shared_expert_intermediate_size": 9}
STILL = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e3, "llama_4_scaling_beta": 0.4, **L0}}
NO_CAP = {"final_logit_softcapping": None}
NO_CAPS = NO_CAP | {"attn_logit_softcapping": None}

GEMMA = SMALL | WIDE | {"pad_token_id": 0, "sliding_window": 3, "query_pre_attn_scalar": 90}
NARROW = GEMMA | {"num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 1, "head_dim": 6}
NARROW |= {"intermediate_size": 28, "sliding_window": 5, "query_pre_attn_scalar": 70, "max_position_embeddings": 40}
"""The decoder of T5Gemma cases, where it differs from the encoder."""


def halves(encoder: dict[str, Any], decoder: dict[str, Any]) -> dict[str, Any]:
    """A config with one document for each half."""
    return {"vocab_size": TOKENS, "encoder": encoder, "decoder": decoder}


BIASED = {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
TURNED = {
    "rope_parameters": {
        FULL: {"rope_type": "yarn", "rope_theta": 5e3, "factor": 4.0, **L0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
    }
}
SCORES = {"architectures": ["ModernBertForSequenceClassification"]}
PADDED = MODERN | {"pad_token_id": 0}

MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_5": ("qwen3_5_text", SMALL | DELTA | HALF | {"num_hidden_layers": 5}),
    "qwen3_5, tied": (
        "qwen3_5_text",
        SMALL
        | TIED
        | {"head_dim": 16, "num_key_value_heads": 1, "layer_types": [FULL, LINEAR, FULL], "rms_norm_eps": 1e-3}
        | YARN
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
        SMALL | YARN | {"layer_types": [FULL, LINEAR, LINEAR], "linear_conv_kernel_dim": 3, "rms_norm_eps": 1e-3},
    ),
    "pegasus": ("pegasus", BART | {"scale_embedding": True, "pad_token_id": 0, "decoder_start_token_id": 0}),
    "pegasus, relu": ("pegasus", BART | {"activation_function": "relu", "decoder_layers": 1}),
    "mt5": ("mt5", T5),
    "mt5, relu": ("mt5", T5 | {"feed_forward_proj": "relu", "num_decoder_layers": 1, "layer_norm_epsilon": 1e-3}),
    "eurobert": ("eurobert", SMALL | WIDE | {"attention_bias": True, "num_key_value_heads": 1}),
    "eurobert, tied": ("eurobert", SMALL | TIED | YARN | {"mlp_bias": True, "rms_norm_eps": 1e-3}),
    "ministral3": ("ministral3", SMALL | WIDE | scaled("yarn", llama_4_scaling_beta=0.7, **L0)),
    "ministral3, window": ("ministral3", SMALL | TIED | STILL | {"sliding_window": 5, "head_dim": 6, "num_key_value_heads": 1}),
    "ministral3, defaults": ("ministral3", SMALL | WIDE),
    "modernbert": ("modernbert", MODERN),
    "modernbert, untied": ("modernbert", MODERN | BIASED | UNTIED | TURNED | {"num_hidden_layers": 4, "norm_eps": 1e-3}),
    "modernbert, relu": (
        "modernbert",
        MODERN | {"global_attn_every_n_layers": 2, "hidden_activation": "silu", "classifier_activation": "relu"},
    ),
    "modernbert, one layer": ("modernbert", MODERN | {"num_hidden_layers": 1, "local_attention": 128, "decoder_bias": False}),
    "modernbert, local first": (
        "modernbert",
        MODERN | {"num_hidden_layers": 3, "local_attention": 2, "layer_types": ["sliding_attention", FULL, FULL]},
    ),
    "modernbert, classes": ("modernbert", MODERN | SCORES | {"num_labels": 3, "classifier_pooling": "mean"}),
    "modernbert, two classes": ("modernbert", MODERN | SCORES | BIASED | {"classifier_activation": "relu"}),
    "modernbert-decoder": ("modernbert-decoder", PADDED),
    "modernbert-decoder, untied": ("modernbert-decoder", PADDED | BIASED | UNTIED | TURNED | {"num_hidden_layers": 4}),
    "modernbert-decoder, relu": (
        "modernbert-decoder",
        PADDED
        | {"global_attn_every_n_layers": 1, "local_attention": 128, "decoder_bias": False}
        | {"classifier_activation": "relu", "norm_eps": 1e-3, "num_hidden_layers": 2},
    ),
    "nanochat": ("nanochat", SMALL | WIDE | {"rms_norm_eps": 1e-3}),
    "nanochat, tied": ("nanochat", SMALL | TIED | YARN | {"attention_bias": True, "num_key_value_heads": 1} | NO_CAP),
    "apertus": ("apertus", SMALL | WIDE | {"attention_bias": True, "num_key_value_heads": 1}),
    "apertus, tied": ("apertus", SMALL | TIED | {"rms_norm_eps": 1e-3} | scaled("linear")),
    "qwen3_next": ("qwen3_next", SMALL | DELTA | HALF | MIXTURE | {"num_hidden_layers": 4, "mlp_only_layers": [1, 2]}),
    "qwen3_next, tied": (
        "qwen3_next",
        without(SMALL, "intermediate_size")
        | TIED
        | DELTA
        | MIXTURE
        | {"head_dim": 8, "num_key_value_heads": 1, "norm_topk_prob": False, "layer_types": [FULL, LINEAR, FULL]}
        | YARN,
    ),
    "qwen3_next, every other": (
        "qwen3_next",
        SMALL | DELTA | HALF | MIXTURE | {"num_hidden_layers": 4, "decoder_sparse_step": 2},
    ),
    "t5gemma": ("t5gemma", halves(GEMMA, NARROW)),
    "t5gemma, untied": (
        "t5gemma",
        halves(
            NARROW | {"attention_bias": True, "num_hidden_layers": 1, "rope_theta": 5e3},
            GEMMA | NO_CAPS | {"layer_types": LAYERS[1:] + LAYERS[:1], "rms_norm_eps": 1e-3, "hidden_activation": "silu"},
        )
        | UNTIED,
    ),
    "t5gemma, no window": (
        "t5gemma",
        halves(
            GEMMA | {"layer_types": [FULL] * 3, "attn_logit_softcapping": None, "sliding_window": 4096},
            NARROW
            | {"layer_types": [FULL] * 2, "attention_bias": True, "final_logit_softcapping": 7.0, "sliding_window": 4096},
        ),
    ),
    "t5gemma, two widths": (
        "t5gemma",
        halves(GEMMA | {"hidden_size": 32, "num_key_value_heads": 4}, NARROW | {"num_hidden_layers": 3} | scaled("linear")),
    ),
}
