"""What the metadata of a file says of the model, as a config of Hugging Face, and such a config as metadata."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.gguf.architectures import Architecture
from jax_transformer.convert.gguf.file import GgufFile
from jax_transformer.convert.gguf.keys import SIZES, Keys
from jax_transformer.convert.gguf.rotation import rotation, rotation_keys

_NONE = ("expert_count", "expert_used_count", "attention.sliding_window", "rope.scaling.finetuned")
"""Keys of what some architectures do not have; zero says so."""

_SPECIAL = {"bos": "bos", "eos": "eos", "pad": "padding"}


def config_values(file: GgufFile, architecture: Architecture, factors: list[float] | None) -> dict[str, Any]:
    """The config of Hugging Face that a file stands for; ``factors`` are its ``FREQUENCIES``.

    Raises ConfigError for keys that are missing, that may change what is computed and are not known, or that no model of the
    family has.
    """
    keys = Keys(file.path, file.metadata)
    values: dict[str, Any] = {theirs: keys.size(own) for own, theirs in SIZES.items()}
    read = {key.theirs: keys.get(key.own, key.default) for key in architecture.keys}
    values |= {key: value for key, value in read.items() if value is not None}
    heads, width = values["num_attention_heads"], values["hidden_size"]
    values["num_key_value_heads"] = keys.size("attention.head_count_kv", heads)
    values["head_dim"] = head_dim = keys.size("attention.key_length", keys.peek("rope.dimension_count") or width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        keys.expect(key, (head_dim,), f"heads of {head_dim} that rotate as a whole")
    own = {key.own for key in architecture.keys}
    for key in _NONE:
        if key not in own:
            keys.expect(key, (0, False), "none of it")
    values |= _by_tensors(file, architecture, keys) | rotation(keys, factors, values)
    keys.finish()
    ids = {f"{name}_token_id": file.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in _SPECIAL.items()}
    return values | architecture.implied(values) | {name: number for name, number in ids.items() if number is not None}


def metadata_of(architecture: Architecture, values: Mapping[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
    """The metadata of a model with the config ``values``, and its ``FREQUENCIES``; what no key can say is left out.

    Raises ConfigError for a rotation that neither says.
    """
    keys = {own: values.get(theirs) for own, theirs in SIZES.items()}
    keys |= {key.own: values.get(key.theirs) for key in architecture.keys}
    head_dim = values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"]
    keys |= {"attention.head_count_kv": values["num_key_value_heads"], "vocab_size": values["vocab_size"]}
    keys |= dict.fromkeys(("attention.key_length", "attention.value_length", "rope.dimension_count"), head_dim)
    turning, divisors = rotation_keys(values, head_dim)
    keys |= turning
    general = {"general.architecture": architecture.name, "general.type": "model"}
    named = {f"{architecture.name}.{key}": value for key, value in keys.items() if value is not None}
    return general | named, divisors


def _by_tensors(file: GgufFile, architecture: Architecture, keys: Keys) -> dict[str, Any]:
    """What only the tensors say: the vocabulary, a matrix that is tied, biases."""
    table = file.tensors.get("token_embd.weight")
    if table is None:
        raise WeightsError(f"{file.path}: has no tensor token_embd.weight; wanted a model with its embeddings")
    keys.expect("vocab_size", (table.shape[0],), f"the {table.shape[0]} rows of token_embd.weight")
    values = {"vocab_size": table.shape[0], "tie_word_embeddings": "output.weight" not in file.tensors}
    return values | {key: tensor in file.tensors for key, tensor in architecture.biases.items()}
