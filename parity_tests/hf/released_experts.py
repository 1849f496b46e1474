"""Configs as released checkpoints with experts have them, in small sizes, and what they mean."""

from typing import Any

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4, "vocab_size": 100}
OLD = SIZES | {"architectures": ["X"], "transformers_version": "4.40.0", "torch_dtype": "bfloat16", "use_cache": True}
OLD |= {"output_router_logits": False, "router_aux_loss_coef": 0.001, "rope_scaling": None, "max_position_embeddings": 4096}
EIGHT = {"num_experts_per_tok": 2, "num_experts": 8, "moe_intermediate_size": 24}
ROUTED = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "n_shared_experts": 2}
DEEPSEEK = OLD | ROUTED | {"num_key_value_heads": 4, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8}
DEEPSEEK |= {"v_head_dim": 16, "aux_loss_alpha": 0.001, "seq_aux": True, "ep_size": 1, "moe_layer_freq": 1, "auto_map": {}}
YARN = {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 4096}
LLAMA4 = {"rope_type": "llama3", "factor": 16.0, "high_freq_factor": 1.0, "low_freq_factor": 1.0}
LLAMA4 |= {"original_max_position_embeddings": 8192}
GROWN = 0.1 * 3.6888794541139363 + 1.0
"""Yarn's size for a factor of 40."""
LISTED = {"layer_types": ["sliding_attention", "full_attention"] * 3}
FFN, ROPE = "layers.5.ffn", "layer.attention.position"

CONFIGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Mixtral 8x7B": (
        "mixtral",
        OLD
        | {
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "num_key_value_heads": 2,
            "rope_theta": 1e6,
            "sliding_window": None,
        },
        {f"{FFN}.num_experts": 8, f"{FFN}.expert.hidden_dim": 96, f"{FFN}.routing.renormalize": True, f"{ROPE}.base": 1e6},
    ),
    "Qwen 3 30B-A3B": (
        "qwen3_moe",
        OLD
        | EIGHT
        | {"decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True, "head_dim": 32, "max_window_layers": 48}
        | {"use_sliding_window": False, "sliding_window": None, "attention_bias": False},
        {f"{FFN}.routing.renormalize": True, f"{FFN}.expert.hidden_dim": 24, "layer.attention.head_dim": 32},
    ),
    "Qwen 1.5 MoE": (
        "qwen2_moe",
        OLD
        | EIGHT
        | {"shared_expert_intermediate_size": 48, "norm_topk_prob": False, "use_sliding_window": False, "sliding_window": 32768}
        | {"max_window_layers": 21, "num_key_value_heads": 4, "decoder_sparse_step": 1},
        {f"{FFN}.shared_gate": True, f"{FFN}.shared.hidden_dim": 48, "layer.attention.window": None},
    ),
    "Qwen 1.5 MoE with a window": (
        "qwen2_moe",
        OLD
        | EIGHT
        | {"shared_expert_intermediate_size": 48, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 3}
        | {"num_key_value_heads": 4},
        {f"layers.{layer}.attention.window": 7 if layer in (0, 2) else None for layer in range(6)},
    ),
    "OLMoE": (
        "olmoe",
        OLD | {"num_experts": 8, "num_experts_per_tok": 2, "clip_qkv": None, "norm_topk_prob": False},
        {f"{FFN}.routing.renormalize": False, "layer.attention.qk_norm.scope": "full"},
    ),
    "DeepSeek-V3": (
        "deepseek_v3",
        DEEPSEEK
        | {"q_lora_rank": 24, "n_group": 4, "topk_group": 2, "topk_method": "noaux_tc", "scoring_func": "sigmoid"}
        | {"norm_topk_prob": True, "routed_scaling_factor": 2.5, "first_k_dense_replace": 3, "num_nextn_predict_layers": 1}
        | {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
        {f"{FFN}.routing.groups.count": 4, f"{FFN}.routing.groups.top": 2, f"{FFN}.shared.hidden_dim": 48}
        | {"layers.2.ffn.kind": "glu", "layers.3.ffn.kind": "moe", f"{ROPE}.scaling.attention_factor": 1.0}
        | {"layer.attention.scale": 24**-0.5 * GROWN * GROWN, f"{ROPE}.layout": "interleaved"},
    ),
    "DeepSeek-V2-Lite": (
        "deepseek_v2",
        DEEPSEEK
        | {"q_lora_rank": None, "n_group": 1, "topk_group": 1, "topk_method": "greedy", "scoring_func": "softmax"}
        | {"norm_topk_prob": False, "routed_scaling_factor": 1.0, "first_k_dense_replace": 1}
        | {"rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}},
        {f"{FFN}.routing.groups.count": None, f"{FFN}.routing.scale": 1.0, "layer.attention.q_rank": None},
    ),
    "DeepSeek-V2": (
        "deepseek_v2",
        DEEPSEEK
        | {"q_lora_rank": 24, "n_group": 4, "topk_group": 3, "topk_method": "group_limited_greedy", "scoring_func": "softmax"}
        | {"norm_topk_prob": False, "routed_scaling_factor": 16.0, "first_k_dense_replace": 1},
        {f"{FFN}.routing.groups.top": 1, f"{FFN}.routing.groups.kept": 3, f"{FFN}.routing.scale": 16.0},
    ),
    "dots.llm1": (
        "dots1",
        OLD
        | ROUTED
        | {"n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "scoring_func": "noaux_tc"}
        | {"first_k_dense_replace": 1, "moe_layer_freq": 1, "sliding_window": None, "max_window_layers": 62}
        | {"num_key_value_heads": 4},
        {f"{FFN}.routing.kind": "sigmoid_top_k", f"{FFN}.routing.scale": 2.5, "layers.0.ffn.kind": "glu"},
    ),
    "GLM 4.5 Air": (
        "glm4_moe",
        OLD
        | ROUTED
        | {"n_shared_experts": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.0}
        | {"first_k_dense_replace": 1, "num_nextn_predict_layers": 1, "partial_rotary_factor": 0.5, "use_qk_norm": False}
        | {"attention_bias": True, "head_dim": 32, "num_key_value_heads": 2, "rope_theta": 1000000},
        {f"{ROPE}.rotary_dim": 16, "layer.attention.qkv_bias": True, "layer.attention.o_bias": False}
        | {f"{FFN}.routing.choice_bias": True, f"{FFN}.shared.hidden_dim": 24, "layer.attention.qk_norm.scope": None},
    ),
    "gpt-oss 20B": (
        "gpt_oss",
        OLD
        | {"num_local_experts": 8, "num_experts_per_tok": 2, "experts_per_token": 2, "initial_context_length": 4096}
        | {"swiglu_limit": 7.0, "sliding_window": 128, "attention_bias": True, "rope_theta": 150000, "head_dim": 32}
        | LISTED
        | {"rope_scaling": YARN | {"factor": 32.0, "truncate": False}, "num_key_value_heads": 2},
        {f"{FFN}.expert.limit": 7.0, f"{FFN}.expert.alpha": 1.702, f"{ROPE}.scaling.truncate": False}
        | {"layer.attention.window": 128, "layers.1.attention.window": None, "layer.attention.sink_logits": True},
    ),
    "ERNIE 4.5 21B-A3B": (
        "ernie4_5_moe",
        OLD
        | {"moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 24, "moe_num_shared_experts": 2, "use_bias": False}
        | {"moe_layer_start_index": 1, "moe_layer_end_index": -1, "moe_layer_interval": 1, "moe_gate": "topk"}
        | {"moe_capacity": [64, 64, 64], "moe_use_aux_free": True, "num_nextn_predict_layers": 1, "rope_theta": 500000},
        {"layers.0.ffn.kind": "glu", f"{FFN}.shared.hidden_dim": 48, f"{FFN}.routing.floor": 1e-12, "head.tied": True},
    ),
    "Hunyuan A13B": (
        "hunyuan_v1_moe",
        OLD
        | {"num_experts": 8, "moe_topk": [2] * 6, "num_key_value_heads": 2, "head_dim": 32, "use_qk_norm": True}
        | {"rope_scaling": {"alpha": 1000.0, "beta_fast": 32, "beta_slow": 1, "factor": 1.0, "mscale": 1.0, "type": "dynamic"}}
        | {"moe_intermediate_size": [96] * 6, "num_shared_expert": [1] * 6, "use_mixed_mlp_moe": True, "norm_topk_prob": True},
        {
            f"{FFN}.routing.top_k": 2,
            f"{FFN}.shared.hidden_dim": 96,
            f"{ROPE}.scaling.kind": "ntk",
            f"{ROPE}.scaling.factor": 1000.0,
        },
    ),
    "MiniMax-M2": (
        "minimax_m2",
        OLD
        | {"num_local_experts": 8, "num_experts_per_tok": 2, "rotary_dim": 16, "head_dim": 32, "use_qk_norm": True}
        | {"qk_norm_type": "per_layer", "scoring_func": "sigmoid", "use_routing_bias": True, "shared_intermediate_size": 0}
        | {"num_key_value_heads": 2},
        {f"{ROPE}.rotary_dim": 16, f"{ROPE}.base": 5e6, f"{FFN}.routing.kind": "sigmoid_top_k"},
    ),
    "the text of Llama 4 Scout": (
        "llama4_text",
        OLD
        | {"num_local_experts": 8, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "intermediate_size_mlp": 192}
        | {"moe_layers": list(range(6)), "no_rope_layers": [1, 1, 1, 0, 1, 1], "attention_chunk_size": 8192, "head_dim": 32}
        | {"attn_temperature_tuning": True, "floor_scale": 8192, "attn_scale": 0.1, "use_qk_norm": True, "rope_theta": 5e5}
        | {"rope_scaling": LLAMA4, "num_key_value_heads": 2, "cache_implementation": "hybrid", "for_llm_compressor": False},
        {f"{ROPE}.layout": "interleaved", "layers.3.attention.position.kind": "none", f"{ROPE}.scaling.factor": 16.0}
        | {"layers.2.attention.chunk_size": 8192, "layers.3.attention.chunk_size": None, f"{FFN}.weigh": "input"}
        | {"layers.3.attention.query_temperature.original_length": 8192, "layer.attention.qk_norm.place": "after_rope"}
        | {f"{FFN}.shared.hidden_dim": 96, f"{FFN}.expert.hidden_dim": 96, f"{FFN}.routing.top_k": 1},
    ),
}
