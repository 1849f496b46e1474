"""What the metadata of a GGUF file says of the model: the keys of a config of Hugging Face, by architecture."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.convert.gguf.file import GgufFile
from jax_transformer.convert.hf.flat import Flat


@dataclass(frozen=True)
class Architecture:
    """One ``general.architecture``, and how its tensors differ from those of the family that it is."""

    family: str
    interleaved: tuple[str, ...] = ()
    """Modules of which llama.cpp puts the two halves of each head between each other, for its own rotation."""
    biases: tuple[str, ...] = ()
    """Keys of the family's config that say if there are biases; here the tensors do."""
    overrides: Flat = field(default_factory=dict)
    """Fields of our config for what the file stores in another sense than the family."""


ARCHITECTURE = {
    "llama": Architecture("llama", interleaved=("attn_q", "attn_k"), biases=("attention_bias", "mlp_bias")),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3", biases=("attention_bias",)),
    # The file has 1 + w. Taking 1 away would lose bits of w, so the norms are read as they are stored.
    "gemma": Architecture("gemma", overrides={"layer.norm.weight": "scale", "final_norm.weight": "scale"}),
}

_SIZES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
"""Counts and widths that every file has."""

_SINGLE = ("expert_count", "expert_used_count", "attention.sliding_window", "rope.scaling.finetuned")
"""Keys of what these families do not have; zero says so."""

_BIASES = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"}

FREQUENCIES = "rope_freqs.weight"
"""A tensor that divides the frequencies of the rotation, for Llama 3.1 and later."""


def architecture_of(file: GgufFile) -> Architecture:
    """The architecture of a file. Raises ConfigError for one that is not known, WeightsError for a part of a model."""
    if file.metadata.get("split.count", 1) not in (0, 1):
        raise WeightsError(
            f"{file.path}: is one of {file.metadata['split.count']} parts; merge them with llama-gguf-split first"
        )
    name, kind = file.metadata.get("general.architecture"), file.metadata.get("general.type", "model")
    if not isinstance(name, str) or name not in ARCHITECTURE or kind != "model":
        raise ConfigError(
            f"{file.path}: general.architecture {name!r} of type {kind!r} is not read; "
            f"wanted a model, one of {list(ARCHITECTURE)}"
        )
    return ARCHITECTURE[name]


def config_values(file: GgufFile, architecture: Architecture, factors: list[float] | None) -> dict[str, Any]:
    """The config of Hugging Face that a file stands for; ``factors`` are its ``FREQUENCIES``.

    Raises ConfigError for keys that are missing, that may change what is computed and are not known, or that no model of the
    family has.
    """
    keys = _Keys(file)
    values: dict[str, Any] = {theirs: keys.size(ours) for ours, theirs in _SIZES.items()}
    values["rms_norm_eps"] = keys.get("attention.layer_norm_rms_epsilon")
    heads, width = values["num_attention_heads"], values["hidden_size"]
    values["num_key_value_heads"] = keys.size("attention.head_count_kv", heads)
    values["head_dim"] = head_dim = keys.size("attention.key_length", keys.peek("rope.dimension_count") or width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        keys.expect(key, (head_dim,), f"heads of {head_dim} that rotate as a whole")
    for key in _SINGLE:
        keys.expect(key, (0, False), "none of it")
    values |= _by_tensors(file, architecture, keys) | _rotation(keys, factors, values["max_position_embeddings"])
    keys.finish()
    special = {"bos": "bos", "eos": "eos", "pad": "padding"}
    ids = {f"{name}_token_id": file.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in special.items()}
    return values | {name: number for name, number in ids.items() if number is not None}


class _Keys:
    """The keys of a file's architecture, and which of them were asked for."""

    def __init__(self, file: GgufFile) -> None:
        self._path = file.path
        self._prefix = f"{file.metadata['general.architecture']}."
        self._values = {
            key.removeprefix(self._prefix): value for key, value in file.metadata.items() if key.startswith(self._prefix)
        }
        self._asked: set[str] = set()

    def peek(self, key: str) -> Any:
        """A value, or None."""
        return self._values.get(key)

    def get(self, key: str, *default: Any) -> Any:
        """A value. Raises ConfigError where it is missing and has no default."""
        self._asked.add(key)
        if key not in self._values and not default:
            raise ConfigError(f"{self._path}: key {self._prefix + key!r} is missing")
        return self._values.get(key, *default)

    def size(self, key: str, *default: Any) -> int:
        """A count or width, the same for all layers. Raises ConfigError where it is none."""
        value = self.get(key, *default)
        if type(value) is not int or value < 1:
            raise ConfigError(f"{self._path}: {self._prefix}{key} is {value!r}; wanted one whole number above 0")
        return value

    def expect(self, key: str, wanted: tuple[Any, ...], meaning: str) -> None:
        """Raises ConfigError where there is a value and it is not one of those ``wanted``."""
        if (value := self.get(key, wanted[0])) not in wanted:
            raise ConfigError(f"{self._path}: {self._prefix}{key} is {value!r}; this family is read with {meaning}")

    def finish(self) -> None:
        """Raises ConfigError where keys are left that nobody asked for."""
        if left := {self._prefix + key: value for key, value in self._values.items() if key not in self._asked}:
            raise ConfigError(f"{self._path}: {left}: these keys may change what the model computes and are not known")


def _by_tensors(file: GgufFile, architecture: Architecture, keys: _Keys) -> dict[str, Any]:
    """What only the tensors say: the vocabulary, a matrix that is tied, biases."""
    table = file.tensors.get("token_embd.weight")
    if table is None:
        raise WeightsError(f"{file.path}: has no tensor token_embd.weight; wanted a model with its embeddings")
    keys.expect("vocab_size", (table.shape[0],), f"the {table.shape[0]} rows of token_embd.weight")
    values = {"vocab_size": table.shape[0], "tie_word_embeddings": "output.weight" not in file.tensors}
    return values | {key: _BIASES[key] in file.tensors for key in architecture.biases}


def _rotation(keys: _Keys, factors: list[float] | None, length: Any) -> dict[str, Any]:
    """Theta and scaling. Divisors that a file has as numbers are those of ``longrope``, the same for every length."""
    values: dict[str, Any] = {"rope_theta": keys.get("rope.freq_base", 10_000.0)}
    kind, factor = keys.get("rope.scaling.type", "none"), keys.get("rope.scaling.factor", 1.0)
    keys.expect("rope.scaling.type", ("none", "linear"), "no scaling or a linear one")
    original = keys.get("rope.scaling.original_context_length", length)
    if kind == "linear":
        values["rope_scaling"] = {"rope_type": "linear", "factor": factor}
    if factors is not None:
        values["rope_scaling"] = {
            "rope_type": "longrope",
            "short_factor": factors,
            "long_factor": factors,
            "attention_factor": 1.0,
            "factor": 1.0,
            "original_max_position_embeddings": original,
        }
    return values


MODULES: Mapping[str, str] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
BLOCK_MODULES: Mapping[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Modules of a block, in llama.cpp's names and those of the family."""
