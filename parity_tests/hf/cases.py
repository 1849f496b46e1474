"""Small configs of every family: odd widths and counts, both ways of tying, windows shorter than the input."""

from typing import Any

from parity_tests.hf.cases_experts import ALPHA, EXPERTS

TOKENS = 43
"""Size of the vocabulary."""

IDS = {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
SMALL = IDS | {
    "vocab_size": TOKENS,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
GPT = IDS | {"vocab_size": TOKENS, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 32}
BARE = IDS | {"vocab_size": TOKENS, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
NEOX = BARE | {"intermediate_size": 20, "max_position_embeddings": 32}
OPT = BARE | {"ffn_dim": 20, "word_embed_proj_dim": 32, "max_position_embeddings": 32}
T5 = IDS | {"vocab_size": TOKENS, "d_model": 24, "d_kv": 10, "d_ff": 20, "num_layers": 2, "num_decoder_layers": 3}
T5 |= {"num_heads": 4, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 9, "decoder_start_token_id": 0}
BART = IDS | {"vocab_size": TOKENS, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "max_position_embeddings": 32}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 6, "encoder_ffn_dim": 20, "decoder_ffn_dim": 28}
BART |= {"decoder_start_token_id": 2, "pad_token_id": 1, "forced_eos_token_id": None}
NEO = IDS | {"vocab_size": TOKENS, "hidden_size": 24, "num_layers": 3, "num_heads": 4, "max_position_embeddings": 32}
NEO |= {"attention_types": [[["global", "local", "global"], 1]], "window_size": 5}
LOCAL = {"attention_types": [[["local", "global"], 1], [["local"], 1]], "intermediate_size": 20}
MPT = IDS | {"vocab_size": TOKENS, "d_model": 24, "n_heads": 4, "n_layers": 3, "max_seq_len": 32}
XGLM = IDS | {"vocab_size": TOKENS, "d_model": 24, "ffn_dim": 20, "num_layers": 3, "attention_heads": 4}
XGLM |= {"max_position_embeddings": 32}
DISTIL = IDS | {"vocab_size": TOKENS, "dim": 24, "hidden_dim": 20, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 32}
WIDE = {"head_dim": 10}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]


def scaled(kind: str, **keys: Any) -> dict[str, Any]:
    """A scaling of the rotation."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 5e3, "factor": 4.0} | keys}


L0 = {"original_max_position_embeddings": 8}
FACTORS = {"short_factor": [1.0, 1.3], "long_factor": [1.5, 3.0]}

CWM = SMALL | {"head_dim": 6, "sliding_window": 5} | scaled("llama3", low_freq_factor=1.0, high_freq_factor=4.0, **L0)

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SMALL | WIDE | {"attention_bias": True, "mlp_bias": True}),
    "llama, tied": ("llama", SMALL | TIED | {"num_key_value_heads": 1, "rms_norm_eps": 1e-3, "num_hidden_layers": 1}),
    "llama, linear": ("llama", SMALL | scaled("linear")),
    "llama, dynamic": ("llama", SMALL | scaled("dynamic") | {"max_position_embeddings": 8}),
    "llama, yarn": ("llama", SMALL | scaled("yarn", **L0)),
    "llama, yarn scales": ("llama", SMALL | scaled("yarn", mscale=1.0, mscale_all_dim=0.7, beta_fast=8.0, **L0)),
    "llama, 3.1": ("llama", SMALL | scaled("llama3", low_freq_factor=1.0, high_freq_factor=4.0, **L0)),
    "mistral": ("mistral", SMALL | WIDE | {"sliding_window": 5}),
    "mistral, no window": ("mistral", SMALL | TIED | {"sliding_window": None}),
    "ministral": ("ministral", SMALL | WIDE | {"sliding_window": 5, "layer_types": LAYERS}),
    "qwen2": ("qwen2", SMALL | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen2, no window": ("qwen2", SMALL | TIED | {"sliding_window": 5}),
    "qwen3": ("qwen3", SMALL | WIDE | {"attention_bias": True}),
    "qwen3, window": ("qwen3", SMALL | TIED | {"use_sliding_window": True, "sliding_window": 5, "layer_types": LAYERS}),
    "seed_oss": ("seed_oss", SMALL | WIDE),
    "seed_oss, other biases": ("seed_oss", SMALL | WIDE | {"attention_bias": False, "attention_out_bias": True}),
    "gemma": ("gemma", SMALL | WIDE),
    "gemma, untied": ("gemma", SMALL | WIDE | UNTIED | {"num_key_value_heads": 1}),
    "gemma2": ("gemma2", SMALL | WIDE | {"sliding_window": 5, "query_pre_attn_scalar": 7}),
    "gemma2, no caps": ("gemma2", SMALL | WIDE | {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma3": ("gemma3_text", SMALL | WIDE | {"sliding_window": 5, "query_pre_attn_scalar": 7, "num_hidden_layers": 7}),
    "phi3": ("phi3", SMALL | {"sliding_window": 5}),
    "phi3, longrope": (
        "phi3",
        SMALL
        | {"max_position_embeddings": 64, "hidden_size": 32, "original_max_position_embeddings": 16}
        | {"rope_parameters": {"rope_type": "longrope", "rope_theta": 5e3, "partial_rotary_factor": 0.5, **FACTORS}},
    ),
    "phi3, longrope, long": (
        "phi3",
        SMALL
        | {"max_position_embeddings": 64, "hidden_size": 32, "original_max_position_embeddings": 8}
        | {"rope_parameters": {"rope_type": "longrope", "rope_theta": 5e3, "partial_rotary_factor": 0.5, **FACTORS}},
    ),
    "olmo": ("olmo", SMALL | {"clip_qkv": 1.5}),
    "olmo, biases": ("olmo", SMALL | TIED | {"attention_bias": True}),
    "olmo2": ("olmo2", SMALL | {"rms_norm_eps": 1e-3}),
    "olmo3": ("olmo3", SMALL | {"sliding_window": 5, "num_hidden_layers": 5}),
    "smollm3": ("smollm3", SMALL | {"no_rope_layers": [1, 0, 1]}),
    "smollm3, window": ("smollm3", SMALL | UNTIED | {"use_sliding_window": True, "sliding_window": 5, "num_hidden_layers": 5}),
    "granite": (
        "granite",
        SMALL | {"embedding_multiplier": 3.0, "residual_multiplier": 0.3, "attention_multiplier": 0.2, "logits_scaling": 7.0},
    ),
    "cohere": ("cohere", SMALL | {"use_qk_norm": True}),
    "cohere, biases": ("cohere", SMALL | {"attention_bias": True, "logit_scale": 0.3, "num_key_value_heads": 1}),
    "cohere2": ("cohere2", SMALL | WIDE | {"sliding_window": 5, "num_hidden_layers": 5}),
    "gpt2": ("gpt2", GPT),
    "gpt2, untied": ("gpt2", GPT | UNTIED | {"n_inner": 20, "activation_function": "relu", "layer_norm_epsilon": 1e-3}),
    "gpt_neox": ("gpt_neox", NEOX),
    "gpt_neox, in turn": ("gpt_neox", NEOX | {"use_parallel_residual": False, "attention_bias": False}),
    "phi": ("phi", SMALL | {"hidden_size": 32, "qk_layernorm": True}),
    "phi, plain": ("phi", SMALL | {"hidden_size": 32, "num_key_value_heads": 4}),
    "starcoder2": ("starcoder2", SMALL | {"sliding_window": 5}),
    "starcoder2, no bias": ("starcoder2", SMALL | UNTIED | {"use_bias": False, "num_key_value_heads": 1}),
    "stablelm": ("stablelm", SMALL | {"hidden_size": 32, "use_qkv_bias": True, "qk_layernorm": True}),
    "stablelm, parallel": ("stablelm", SMALL | {"hidden_size": 32, "use_parallel_residual": True}),
    "glm": ("glm", SMALL | {"head_dim": 8}),
    "glm4": ("glm4", SMALL | {"head_dim": 8, "attention_bias": False}),
    "gptj": ("gptj", GPT | {"rotary_dim": 4}),
    "gptj, tied": ("gptj", GPT | TIED | {"rotary_dim": 6, "n_inner": 20}),
    "opt": ("opt", OPT),
    "opt, after": (
        "opt",
        OPT | {"do_layer_norm_before": False, "enable_bias": False},
    ),
    "bloom": ("bloom", IDS | {"vocab_size": TOKENS, "hidden_size": 24, "n_layer": 3, "n_head": 4}),
    "bloom, six heads": ("bloom", IDS | {"vocab_size": TOKENS, "hidden_size": 24, "n_layer": 2, "n_head": 6}),
    "falcon": ("falcon", BARE | {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}),
    "falcon, 7b": ("falcon", BARE),
    "falcon, in turn": ("falcon", BARE | UNTIED | {"multi_query": False, "parallel_attn": False}),
    "falcon, one norm": (
        "falcon",
        BARE | {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1, "ffn_hidden_size": 20},
    ),
    "nemotron": ("nemotron", SMALL | {"hidden_size": 32, "head_dim": 8}),
    "nemotron, biases": ("nemotron", SMALL | {"head_dim": 12, "attention_bias": True, "mlp_bias": True}),
    "helium": ("helium", SMALL | {"head_dim": 6}),
    "arcee": ("arcee", SMALL | WIDE | {"mlp_bias": True}),
    "bert": ("bert", NEOX),
    "bert, relu": ("bert", NEOX | {"type_vocab_size": 3, "hidden_act": "relu", "layer_norm_eps": 1e-4}),
    "roberta": ("roberta", NEOX | {"type_vocab_size": 1, "pad_token_id": 1}),
    "t5": ("t5", T5),
    "t5, 1.1": ("t5", T5 | {"feed_forward_proj": "gated-gelu", "scale_decoder_outputs": False}),
    "bart": ("bart", BART | {"scale_embedding": True}),
    "bart, relu": ("bart", BART | {"activation_function": "relu", "encoder_layers": 1}),
    "mbart": ("mbart", BART),
    "marian": ("marian", BART | {"decoder_vocab_size": TOKENS, "activation_function": "swish", "scale_embedding": True}),
    "umt5": ("umt5", T5),
    "umt5, relu": ("umt5", T5 | {"feed_forward_proj": "relu"}),
    "gpt_bigcode": ("gpt_bigcode", GPT),
    "gpt_bigcode, all heads": ("gpt_bigcode", GPT | UNTIED | {"multi_query": False, "n_inner": 20}),
    "gpt_neo": ("gpt_neo", NEO),
    "gpt_neo, window": (
        "gpt_neo",
        NEO | LOCAL,
    ),
    "mpt": ("mpt", MPT),
    "mpt, six heads": ("mpt", MPT | {"n_heads": 6, "attn_config": {"clip_qkv": 1.5, "softmax_scale": 0.3}}),
    "exaone4": ("exaone4", SMALL | {"sliding_window": 5, "num_hidden_layers": 5}),
    "exaone4, no window": ("exaone4", SMALL | TIED | {"sliding_window": None, "layer_types": ["full_attention"] * 3}),
    "cwm": (
        "cwm",
        CWM,
    ),
    "hunyuan": ("hunyuan_v1_dense", SMALL | WIDE | {"attention_bias": True}),
    "hunyuan, alpha": ("hunyuan_v1_dense", SMALL | WIDE | ALPHA),
    "ernie4_5": ("ernie4_5", SMALL | {"head_dim": 10}),
    "vaultgemma": ("vaultgemma", SMALL | WIDE | {"sliding_window": 5, "query_pre_attn_scalar": 7}),
    "jais2": ("jais2", SMALL | {"head_dim": 10}),
    "persimmon": ("persimmon", NEOX),
    "persimmon, no norm": ("persimmon", NEOX | TIED | {"qk_layernorm": False}),
    "codegen": ("codegen", GPT | {"rotary_dim": 4}),
    "biogpt": ("biogpt", NEOX | {"pad_token_id": 1}),
    "xglm": ("xglm", XGLM | {"pad_token_id": 1}),
    "xglm, unscaled": ("xglm", XGLM | UNTIED | {"pad_token_id": 1, "scale_embedding": False, "activation_function": "relu"}),
    "distilbert": ("distilbert", DISTIL),
    "electra": ("electra", NEOX | {"embedding_size": 10}),
} | EXPERTS
