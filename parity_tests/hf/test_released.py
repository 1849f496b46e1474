"""Configs as released checkpoints have them, old spellings and idle keys included, are read as what they mean."""

from typing import Any

import pytest

from jax_transformer.convert.hf import FAMILY, choose
from jax_transformer.convert.hf.flat import flatten
from jax_transformer.convert.hf.parts import at
from parity_tests.hf import released_experts

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4, "vocab_size": 100}
OLD = SIZES | {"architectures": ["X"], "transformers_version": "4.40.0", "torch_dtype": "bfloat16", "use_cache": True}
T5 = {"model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 3, "num_heads": 4, "vocab_size": 100}
LLAMA31 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA31 |= {"original_max_position_embeddings": 8192}
FACTORS = [1.0 + 0.1 * pair for pair in range(8)]
ROPE = "layer.attention.position"
GEMMA = OLD | {"model_type": "t5_gemma_module", "attention_bias": False, "classifier_dropout_rate": 0.0, "dropout_rate": 0.0}
GEMMA |= {"query_pre_attn_scalar": 256, "rope_theta": 10000.0, "sliding_window": 4096, "eos_token_id": [1, 107]}

CONFIGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Llama 2": (
        "llama",
        OLD | {"pretraining_tp": 1, "rope_scaling": None, "max_position_embeddings": 4096},
        {"layer.attention.num_kv_heads": 4, f"{ROPE}.base": 10000.0, "head.tied": False, "max_length": 4096},
    ),
    "Llama 3.1": (
        "llama",
        OLD | {"rope_theta": 500000.0, "rope_scaling": LLAMA31, "num_key_value_heads": 2, "max_position_embeddings": 131072},
        {f"{ROPE}.scaling.original_length": 8192, f"{ROPE}.base": 500000.0, "max_length": 131072},
    ),
    "SmolLM2": (
        "llama",
        OLD | {"is_llama_config": True, "rope_interleaved": False, "tie_word_embeddings": True, "transformers.js_config": {}},
        {"head.tied": True, "max_length": 2048},
    ),
    "Mistral 7B 0.1": ("mistral", OLD | {"num_key_value_heads": 2, "sliding_window": 4096}, {"layer.attention.window": 4096}),
    "Mistral 7B 0.3": ("mistral", OLD | {"num_key_value_heads": 2, "sliding_window": None}, {"layer.attention.window": None}),
    "Qwen 2.5": (
        "qwen2",
        OLD | {"use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 28, "use_mrope": False},
        {"layer.attention.window": None, "layer.attention.qkv_bias": True, "layer.attention.o_bias": False},
    ),
    "Gemma 2": (
        "gemma2",
        OLD
        | {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "cache_implementation": "hybrid"}
        | {"query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "head_dim": 256},
        {"layer.attention.scale": 0.0625, "layer.attention.window": 4096, "layers.1.attention.window": None, "head.tied": True},
    ),
    "Gemma 2, written out": (
        "gemma2",
        OLD | {"attn_logit_softcapping": None, "num_key_value_heads": None},
        {"layer.attention.softcap": None, "head.softcap": 30.0, "layer.attention.num_kv_heads": 4},
    ),
    "Gemma 3": (
        "gemma3_text",
        OLD
        | {"rope_local_base_freq": 10000, "rope_theta": 2000000, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
        | {"sliding_window": 512, "sliding_window_pattern": 6, "attn_logit_softcapping": None},
        {f"{ROPE}.base": 10000, "layers.5.attention.position.base": 2000000, "layers.5.attention.window": None}
        | {f"{ROPE}.scaling.factor": None, "layers.5.attention.position.scaling.factor": 8.0},
    ),
    "Phi 3.5": (
        "phi3",
        OLD
        | {"auto_map": {}, "original_max_position_embeddings": 4096, "max_position_embeddings": 131072, "sliding_window": 9}
        | {"rope_scaling": {"type": "longrope", "short_factor": FACTORS, "long_factor": FACTORS}, "attention_bias": False},
        {f"{ROPE}.scaling.factor": 32.0, f"{ROPE}.scaling.original_length": 4096, "layer.attention.window": 9},
    ),
    "SmolLM3 with a window": (
        "smollm3",
        OLD | {"use_sliding_window": True, "sliding_window": 9, "no_rope_layers": [1, 1, 0, 1, 1, 0]},
        {f"{ROPE}.kind": "rope", "layers.2.attention.position.kind": "none", "layers.2.attention.window": 9}
        | {"layer.attention.window": None},
    ),
    "EXAONE 4": (
        "exaone4",
        OLD | {"sliding_window_pattern": "LLLG", "layer_types": ["sliding_attention"] * 3 + ["full_attention"] * 3},
        {"layer.attention.window": 4096, "layers.3.attention.position.kind": "none", "layers.3.attention.window": None},
    ),
    "GPT-2": (
        "gpt2",
        {"n_embd": 64, "n_head": 4, "n_layer": 3, "n_positions": 1024, "n_ctx": 1024, "vocab_size": 50257, "attn_pdrop": 0.1},
        {"layer.ffn.hidden_dim": 256, "layer.ffn.activation": "gelu_tanh", "head.tied": True, "max_length": 1024},
    ),
    "Pythia": (
        "gpt_neox",
        OLD | {"rotary_emb_base": 20000, "rotary_pct": 0.5, "use_parallel_residual": True},
        {f"{ROPE}.base": 20000, f"{ROPE}.rotary_dim": 8, "layer.parallel": "separate", "layer.ffn.activation": "gelu_erf"},
    ),
    "StarCoder 2": (
        "starcoder2",
        OLD | {"activation_function": "gelu", "mlp_type": "default", "norm_type": "layer_norm", "use_bias": True},
        {"layer.ffn.activation": "gelu_tanh", "head.tied": True, "layer.attention.num_kv_heads": 2},
    ),
    "BERT": (
        "bert",
        SIZES | {"gradient_checkpointing": False, "position_embedding_type": "absolute", "hidden_dropout_prob": 0.1},
        {"layer.norm.eps": 1e-12, "max_length": 512, "head.tied": True, "embedding.num_token_types": 2},
    ),
    "T5 1.0": (
        "t5",
        T5 | {"is_encoder_decoder": True, "n_positions": 512, "output_past": True, "dropout_rate": 0.1},
        {"head.scale": 0.125, "head.tied": True, "encoder.layer.ffn.kind": "mlp", "decoder.stack.num_layers": 3},
    ),
    "T5 1.1": (
        "t5",
        T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 2},
        {"head.scale": 1.0, "head.tied": False, "decoder.layer.ffn.activation": "gelu_tanh", "decoder.stack.num_layers": 2},
    ),
    "T5Gemma 9B-2B": (
        "t5gemma",
        {"encoder": GEMMA | {"hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 8}}
        | {"decoder": GEMMA | {"cross_attention_hidden_size": 128, "is_decoder": True}}
        | {"dropout_rate": 0.0, "is_encoder_decoder": True, "pad_token_id": 0, "vocab_size": 256000},
        {"encoder.d_model": 128, "d_model": 64, "vocab_size": 100, "start_token": 2, "head.tied": True, "head.softcap": 30.0}
        | {"encoder.layer.attention.num_heads": 8, "decoder.layer.cross_attention.num_kv_heads": 4}
        | {"encoder.layer.attention.window": 4096, "decoder.layers.1.attention.window": None, "max_source_length": 8192},
    ),
} | released_experts.CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_a_released_config_means_what_it_meant(name: str):
    family, values, wanted = CONFIGS[name]
    model = FAMILY[family].read_config(values | {"model_type": family}, name)
    flat = flatten(model)
    assert {path: at(flat, path) for path in wanted} == wanted
    assert choose(model, family) is FAMILY[family]
