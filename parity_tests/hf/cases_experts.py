"""Small configs of the families with experts: dense layers before and between, shared experts, groups, latent attention."""

from typing import Any

VOCABULARY = {"vocab_size": 43, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
SMALL = VOCABULARY | {
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "num_experts_per_tok": 2,
}


def without(keys: dict[str, Any], name: str) -> dict[str, Any]:
    """The keys but for one, here of a network that no layer has."""
    return {key: value for key, value in keys.items() if key != name}


def scaled(**keys: Any) -> dict[str, Any]:
    """A rotation scaled by yarn."""
    yarn = {"rope_type": "yarn", "rope_theta": 5e3, "factor": 4.0, "original_max_position_embeddings": 8}
    return {"rope_parameters": yarn | keys}


TIED, WINDOW = {"tie_word_embeddings": True}, {"use_sliding_window": True, "sliding_window": 5}
FIVE = {"num_hidden_layers": 5}
LOCAL = {"num_local_experts": 5}
FULL, CHUNKED = "full_attention", "chunked_attention"
QWEN = SMALL | {"num_experts": 5, "moe_intermediate_size": 14}
SHARED = QWEN | {"shared_expert_intermediate_size": 18}
ROUTED = {"n_routed_experts": 6, "moe_intermediate_size": 14, "n_shared_experts": 2, "first_k_dense_replace": 1}
GROUPS = {"n_group": 3, "topk_group": 2}
LATENT = SMALL | {"num_key_value_heads": 4, "kv_lora_rank": 10, "q_lora_rank": 9, "qk_rope_head_dim": 4}
LATENT |= {"qk_nope_head_dim": 6, "v_head_dim": 8}
V3 = LATENT | ROUTED | GROUPS | {"num_nextn_predict_layers": 0}
V2 = LATENT | ROUTED
DOTS = SMALL | ROUTED | {"head_dim": 10}
GLM = SMALL | ROUTED | {"head_dim": 12, "num_nextn_predict_layers": 0}
OSS = SMALL | LOCAL | {"head_dim": 10, "sliding_window": 5}
ERNIE = without(SMALL, "num_experts_per_tok") | {"moe_num_experts": 5, "moe_k": 2, "moe_intermediate_size": 14}
HUNYUAN = SMALL | {"num_experts": 5, "moe_topk": 2}
ALPHA = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 5e3, "alpha": 30.0, "factor": 1.0}}
OLMOE = SMALL | {"num_experts": 5}
MINIMAX = SMALL | LOCAL | {"head_dim": 12}
LLAMA4 = SMALL | LOCAL | {"head_dim": 10, "intermediate_size_mlp": 18, "num_experts_per_tok": 1, "num_hidden_layers": 5}
LLAMA4 |= {"attention_chunk_size": 5, "floor_scale": 3, "attn_scale": 0.7}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e3, "factor": 4.0, "original_max_position_embeddings": 8}
LLAMA3 |= {"low_freq_factor": 1.0, "high_freq_factor": 1.0}


EXPERTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("mixtral", SMALL | LOCAL | {"head_dim": 10, "sliding_window": 5}),
    "mixtral, tied": (
        "mixtral",
        SMALL | TIED | {"num_local_experts": 4, "head_dim": 6, "num_key_value_heads": 1, "num_experts_per_tok": 1} | scaled(),
    ),
    "qwen3_moe": ("qwen3_moe", QWEN | WINDOW | {"head_dim": 10, "mlp_only_layers": [1], "norm_topk_prob": True}),
    "qwen3_moe, every other": (
        "qwen3_moe",
        QWEN | TIED | {"decoder_sparse_step": 2, "num_hidden_layers": 5, "attention_bias": True} | scaled(),
    ),
    "qwen3_moe, no dense layer": (
        "qwen3_moe",
        without(QWEN, "intermediate_size") | {"num_key_value_heads": 1, "num_experts_per_tok": 5},
    ),
    "qwen2_moe": ("qwen2_moe", SHARED | scaled() | {"head_dim": 10, "mlp_only_layers": [0], "norm_topk_prob": True}),
    "qwen2_moe, window": (
        "qwen2_moe",
        without(SHARED, "intermediate_size")
        | WINDOW
        | TIED
        | {"num_key_value_heads": 1, "qkv_bias": False, "max_window_layers": 2},
    ),
    "olmoe": ("olmoe", OLMOE | {"norm_topk_prob": True, "rms_norm_eps": 1e-3}),
    "olmoe, biases": ("olmoe", OLMOE | TIED | {"attention_bias": True, "num_key_value_heads": 1} | scaled()),
    "granitemoe": (
        "granitemoe",
        SMALL
        | LOCAL
        | {"embedding_multiplier": 3.0, "residual_multiplier": 0.3, "attention_multiplier": 0.2, "logits_scaling": 7.0},
    ),
    "granitemoe, biases": (
        "granitemoe",
        SMALL | LOCAL | TIED | scaled() | {"head_dim": 10, "attention_bias": True, "num_key_value_heads": 1},
    ),
    "deepseek_v3": ("deepseek_v3", V3),
    "deepseek_v3, yarn": ("deepseek_v3", V3 | TIED | scaled(mscale=1.0, mscale_all_dim=0.707, beta_fast=8.0)),
    "deepseek_v3, yarn, one factor": ("deepseek_v3", V3 | {"rope_interleave": False} | scaled()),
    "deepseek_v3, direct": (
        "deepseek_v3",
        V3 | {"q_lora_rank": None, "n_group": 1, "topk_group": 1, "attention_bias": True, "norm_topk_prob": False},
    ),
    "deepseek_v2": ("deepseek_v2", V2 | GROUPS | {"topk_method": "group_limited_greedy", "routed_scaling_factor": 3.0}),
    "deepseek_v2, direct": ("deepseek_v2", V2 | TIED | {"q_lora_rank": None, "attention_bias": True, "mlp_bias": True}),
    "deepseek_v2, yarn": ("deepseek_v2", V2 | {"first_k_dense_replace": 2} | scaled(mscale=0.707, mscale_all_dim=0.707)),
    "dots1": ("dots1", DOTS | GROUPS | {"norm_topk_prob": True, "sliding_window": None}),
    "dots1, window": (
        "dots1",
        DOTS
        | TIED
        | scaled()
        | {"num_key_value_heads": 1, "sliding_window": 5, "max_window_layers": 1, "attention_bias": True},
    ),
    "glm4_moe": ("glm4_moe", GLM | GROUPS | {"use_qk_norm": True, "attention_bias": True, "routed_scaling_factor": 2.5}),
    "glm4_moe, no norm": (
        "glm4_moe",
        without(GLM, "intermediate_size") | TIED | scaled() | {"first_k_dense_replace": 0, "num_key_value_heads": 1},
    ),
    "gpt_oss": ("gpt_oss", OSS | scaled(truncate=False)),
    "gpt_oss, small limit": (
        "gpt_oss",
        OSS
        | TIED
        | {"swiglu_limit": 0.7, "swiglu_alpha": 1.3, "attention_bias": False, "rope_parameters": {"rope_type": "default"}}
        | FIVE
        | {"num_key_value_heads": 1},
    ),
    "ernie4_5_moe": ("ernie4_5_moe", ERNIE | {"use_bias": True}),
    "ernie4_5_moe, interval": (
        "ernie4_5_moe",
        ERNIE
        | {"num_hidden_layers": 6, "moe_layer_interval": 2, "moe_layer_end_index": 3, "moe_num_shared_experts": 0}
        | {"tie_word_embeddings": False, "moe_norm_min": 0.6, "num_key_value_heads": 1, "head_dim": 10}
        | scaled(),
    ),
    "hunyuan_moe": ("hunyuan_v1_moe", HUNYUAN | {"head_dim": 10, "attention_bias": True}),
    "hunyuan_moe, tied": ("hunyuan_v1_moe", HUNYUAN | TIED | {"head_dim": 6, "num_key_value_heads": 1, "num_hidden_layers": 1}),
    "hunyuan_moe, alpha": ("hunyuan_v1_moe", HUNYUAN | {"head_dim": 10} | ALPHA),
    "flex_olmo": ("flex_olmo", OLMOE | scaled() | {"head_dim": 10, "norm_topk_prob": True}),
    "flex_olmo, tied": (
        "flex_olmo",
        OLMOE | TIED | {"num_experts_per_tok": 3, "attention_bias": True, "num_key_value_heads": 1},
    ),
    "minimax_m2": ("minimax_m2", MINIMAX | {"rotary_dim": 6}),
    "minimax_m2, whole heads": ("minimax_m2", MINIMAX | TIED | scaled() | {"num_key_value_heads": 1, "rms_norm_eps": 1e-3}),
    "llama4": ("llama4_text", without(LLAMA4, "intermediate_size_mlp")),
    "llama4, every other": (
        "llama4_text",
        LLAMA4
        | TIED
        | {"interleave_moe_layer_step": 2, "no_rope_layer_interval": 2, "attention_chunk_size": 4, "num_experts_per_tok": 3}
        | {"attention_bias": True, "rope_parameters": LLAMA3 | {"high_freq_factor": 3.0}},
    ),
    "llama4, lists": (
        "llama4_text",
        without(LLAMA4, "floor_scale")
        | {"moe_layers": [0, 3], "no_rope_layers": [0, 1, 1, 0, 1], "use_qk_norm": False, "attn_temperature_tuning": False}
        | {"attn_scale": 0.1, "num_key_value_heads": 1, "rope_parameters": LLAMA3, "hidden_act": "gelu"},
    ),
    "llama4, types": (
        "llama4_text",
        LLAMA4
        | {"layer_types": [CHUNKED, FULL, CHUNKED, CHUNKED, FULL], "attention_chunk_size": 7, "rms_norm_eps": 1e-2}
        | {"interleave_moe_layer_step": 3},
    ),
    "llama4, dense": (
        "llama4_text",
        without(without(LLAMA4, "intermediate_size"), "num_local_experts")
        | TIED
        | {"moe_layers": [], "no_rope_layers": [0] * 5, "no_rope_layer_interval": 1, "attention_chunk_size": 8192},
    ),
    "llama4, all rotate": (
        "llama4_text",
        without(LLAMA4, "intermediate_size_mlp")
        | {"num_hidden_layers": 3, "attention_chunk_size": 32, "floor_scale": 8192, "attn_scale": 0.1},
    ),
}
