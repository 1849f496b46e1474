"""Tiny models of transformers of every architecture, of sizes that its own reader of GGUF files does not lose."""

from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from parity_tests.hf import checkpoints
from parity_tests.hf.bases import L0, SMALL, TIED, TOKENS, UNTIED, WIDE, scaled
from parity_tests.hf.cases_experts import QWEN

load_gguf_checkpoint = import_module("transformers.modeling_gguf_pytorch_utils").load_gguf_checkpoint

HEADS = {"head_dim": 128}
"""What transformers takes for the width of a head of Qwen 3 where it reads a GGUF file: it has no key for it."""
LARGE = {"head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 5}
"""The same of the scale of scores of Gemma."""

WINDOW = {"head_dim": 10, "query_pre_attn_scalar": 10, "sliding_window": 5}
NARROW = ("gemma2, narrow", "gemma3, narrow")
"""Scaled by the width of a head of 10, which transformers does not read."""
WIDTHS = {"moe_intermediate_size": 768, "intermediate_size": 6144}
"""The same of the width of an expert; the other width is that of dense layers, of which there are none."""

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SMALL | WIDE),
    "llama, tied": ("llama", SMALL | TIED | {"num_key_value_heads": 1, "rms_norm_eps": 1e-3}),
    "llama, 3.1": ("llama", SMALL | scaled("llama3", low_freq_factor=1.0, high_freq_factor=4.0, **L0)),
    "llama, linear": ("llama", SMALL | scaled("linear")),
    "qwen2": ("qwen2", SMALL | {"use_sliding_window": False}),
    "qwen3": ("qwen3", SMALL | HEADS | {"use_sliding_window": False}),
    "gemma": ("gemma", SMALL | {"head_dim": 256}),
    "gemma2": ("gemma2", SMALL | LARGE),
    "gemma3": ("gemma3_text", SMALL | LARGE | {"num_hidden_layers": 7}),
    "gemma2, narrow": ("gemma2", SMALL | WINDOW),
    "gemma3, narrow": ("gemma3_text", SMALL | WINDOW | {"num_hidden_layers": 7}),
    "starcoder2": ("starcoder2", SMALL | {"sliding_window": None}),
    "starcoder2, untied": ("starcoder2", SMALL | UNTIED | {"sliding_window": None, "num_key_value_heads": 1}),
    "mixtral": ("mixtral", SMALL | {"num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": None}),
    "qwen3_moe": ("qwen3_moe", QWEN | HEADS | WIDTHS | {"norm_topk_prob": True}),
}


def read_by_transformers(path: Path) -> Any:
    """The model of a file as transformers reads it. ``from_pretrained(gguf_file=...)`` does it too; it needs accelerate."""
    values = load_gguf_checkpoint(path)["config"]
    # Of some architectures it takes the vocabulary from the tokenizer alone.
    config = checkpoints.transformers.AutoConfig.for_model(**{"vocab_size": TOKENS} | values)
    config._attn_implementation = config._experts_implementation = "eager"
    model = checkpoints.transformers.AutoModelForCausalLM.from_config(config)
    tensors = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    report = model.load_state_dict(tensors, strict=False)
    assert not report.unexpected_keys
    assert report.missing_keys == ["lm_head.weight"] * config.tie_word_embeddings
    return model.eval()


def save_model(case: str, folder: Path, dtype: str = "float32", source: tuple[str, dict[str, Any]] | None = None) -> Any:
    """The model of a case, or of another ``source``, every parameter random, and its folder."""
    with mock.patch.dict(checkpoints.CASES, {case: source or MODELS[case]}):
        return checkpoints.save(case, folder, dtype)
