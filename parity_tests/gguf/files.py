"""GGUF files written as the format says, from tiny models of ``transformers`` in llama.cpp's names and layout."""

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jax_transformer.convert.hub import open_weights

F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ2_XXS, BF16 = 0, 1, 2, 3, 6, 7, 8, 16, 30
PLAIN = {"float32": F32, "float16": F16, "bfloat16": BF16}

Tensor = tuple[int, tuple[int, ...], bytes]
"""Type, shape with the outermost dimension first, content."""

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def text(value: str) -> bytes:
    """A string of the format."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(item: Any) -> bytes:
    """Type and value: bool, int as uint32, float as float32, str, or a list of one of them."""
    if isinstance(item, list):
        parts = [value(one) for one in item]
        kind = parts[0][:4] if parts else struct.pack("<I", 8)
        return struct.pack("<I", 9) + kind + struct.pack("<Q", len(item)) + b"".join(part[4:] for part in parts)
    if isinstance(item, bool):
        return struct.pack("<IB", 7, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    return struct.pack("<I", 8) + text(item)


def pack(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], alignment: int = 32, version: int = 3) -> bytes:
    """A whole file."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(text(key) + value(item) for key, item in metadata.items())
    body = b""
    for name, (kind, shape, content) in tensors.items():
        body += b"\0" * (-len(body) % alignment)
        dims = struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += text(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", kind, len(body))
        body += content
    return head + b"\0" * (-len(head) % alignment) + body


def plain(array: np.ndarray) -> Tensor:
    """A tensor of plain numbers."""
    return PLAIN[str(array.dtype)], array.shape, array.tobytes()


def tensors_of(folder: Path, architecture: str, heads: tuple[int, int]) -> dict[str, Tensor]:
    """The tensors of a Hugging Face folder as llama.cpp's converter writes them: norms stay float32."""
    result = {}
    for name, array in open_weights(folder).tensors():
        module, _, leaf = re.sub(r"^model\.layers\.\d+\.", "", name).rpartition(".")
        layer = re.match(r"model\.layers\.(\d+)\.", name)
        count = dict(zip(("self_attn.q_proj", "self_attn.k_proj"), heads, strict=True)).get(module)
        if architecture == "llama" and count:
            array = array.reshape(count, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
        if array.ndim == 1:
            array = array.astype(np.float32) + np.float32(architecture == "gemma" and module.endswith("norm"))
        result[f"{f'blk.{layer[1]}.' if layer else ''}{NAMES[module]}.{leaf}"] = plain(np.ascontiguousarray(array))
    return result


def metadata_of(config: Any, architecture: str) -> dict[str, Any]:
    """What llama.cpp's converter says of a config of transformers."""
    values = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
    }
    general = {"general.architecture": architecture, "general.file_type": 0}
    return general | {f"{architecture}.{key}": item for key, item in values.items()}


def write_model(folder: Path, path: Path, architecture: str, config: Any, **more: Any) -> None:
    """The model in a folder as a GGUF file; ``more`` are further keys of its architecture, with __ for a dot."""
    metadata = metadata_of(config, architecture) | {
        f"{architecture}.{key.replace('__', '.')}": item for key, item in more.items()
    }
    heads = config.num_attention_heads, config.num_key_value_heads
    path.write_bytes(pack(metadata, tensors_of(folder, architecture, heads)))
