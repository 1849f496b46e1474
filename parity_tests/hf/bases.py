"""What the small configs of the families start from: odd widths and counts."""

from typing import Any

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
MODERN = {key: SMALL[key] for key in SMALL if key != "num_key_value_heads"} | {"num_hidden_layers": 5, "local_attention": 6}
WIDE = {"head_dim": 10}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]


def scaled(kind: str, **keys: Any) -> dict[str, Any]:
    """A scaling of the rotation."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 5e3, "factor": 4.0} | keys}


L0 = {"original_max_position_embeddings": 8}
LINEAR, YARN = scaled("linear"), scaled("yarn", **L0)
FULL_ONLY = {
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 8e4, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
    }
}
ONE, BIASED = {"num_key_value_heads": 1}, {"attention_bias": True}
FACTORS = {"short_factor": [1.0, 1.3], "long_factor": [1.5, 3.0]}

CWM = SMALL | {"head_dim": 6, "sliding_window": 5} | scaled("llama3", low_freq_factor=1.0, high_freq_factor=4.0, **L0)
