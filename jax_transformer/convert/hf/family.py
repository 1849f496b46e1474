"""A family: the config table, the tensor table, and the engine that runs both in either direction."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jax_transformer.config import Model
from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.byte_ops import Shape
from jax_transformer.convert.hf.flat import Flat, build, differences, flatten
from jax_transformer.convert.hf.parts import Keys, Part
from jax_transformer.convert.rows import Bound, Constant, Drop, Row, bind

_HARMLESS = (
    "transformers.js_config bad_words_ids "
    "_attn_implementation _attn_implementation_autoset _name_or_path activation_dropout architectures attention_dropout "
    "attention_probs_dropout_prob attn_implementation attn_pdrop auto_map begin_suppress_tokens bos_token_id "
    "chunk_size_feed_forward classifier_dropout decoder_layerdrop dropout dtype early_stopping embd_pdrop embedding_dropout "
    "encoder_layerdrop eos_token_id finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing "
    "hidden_dropout hidden_dropout_prob id2label init_std initializer_factor initializer_range is_encoder_decoder "
    "keys_to_ignore_at_inference label2id layerdrop length_penalty mlp_dropout model_max_length model_type "
    "no_repeat_ngram_size num_beams num_labels output_attentions output_hidden_states pad_token_id pretraining_tp "
    "problem_type resid_pdrop residual_dropout return_dict sep_token_id suppress_tokens task_specific_params "
    "tie_encoder_decoder tokenizer_class torch_dtype torchscript transformers_version use_cache use_return_dict "
    "decoder_start_token_id"
)
HARMLESS = frozenset(_HARMLESS.split())
"""Keys of any config that change no number of a forward pass without dropout."""

IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def read_parts(parts: Iterable[Part], hf: Keys) -> Flat:
    """What all parts read; of two that read the same path, the later one says it."""
    flat: Flat = {}
    for part in parts:
        flat |= part.read(hf)
    return flat


def write_parts(parts: Iterable[Part], flat: Flat) -> dict[str, Any]:
    """What all parts write; null takes no value's place."""
    keys: dict[str, Any] = {}
    for part in parts:
        keys |= {key: value for key, value in part.write(flat).items() if value is not None or key not in keys}
    return keys


def refuse_unknown(hf: Keys, harmless: str, name: str, prefix: str = "") -> None:
    """Raises ConfigError for keys that no part asked for and that are not ``harmless``, with ``prefix`` before their names."""
    known = hf.asked | HARMLESS | set(harmless.split())
    if unknown := {f"{prefix}{key}": value for key, value in hf.values.items() if key not in known and value is not None}:
        raise ConfigError(
            f"{hf.label}: a {name} with {unknown}: these keys may change what the model computes and are not known; "
            "remove those that do nothing"
        )


@dataclass(frozen=True)
class Family:
    """One ``model_type``."""

    name: str
    architecture: str
    """Name of the class in transformers."""
    parts: tuple[Part, ...]
    rows: tuple[Row, ...]
    harmless: str = ""
    """Further keys that change no number, between spaces."""
    drops: tuple[Drop, ...] = ()
    constants: tuple[Constant, ...] = ()
    prefix: str = ""
    """What the names begin with, and do not in a file of the model without its head."""
    head: tuple[str, str] = ("lm_head.weight", "model.embed_tokens.weight")
    """The output matrix and the table that it may be tied to; it is then left out of the file."""
    copies: tuple[tuple[str, str], ...] = ()
    """Other tensors that a file may hold twice: the copy and the original."""

    null_ids: tuple[str, ...] = IDS
    """Ids of special tokens that may be null, and are where nothing is known of them."""
    documents: tuple[str, ...] = ()
    """Documents within the config that have ids of special tokens too."""
    spellings: tuple[tuple[str, str], ...] = ()
    """Ends of names in old files, and what they are called now."""
    further: tuple[str, ...] = ()
    """Keys that count the layers behind the last one. They predict further tokens: a file's are read over, none is written."""

    def read_config(self, values: Mapping[str, Any], label: str, overrides: Mapping[str, Any] | None = None) -> Model:
        """Our config of theirs; ``overrides`` are fields of ours, by path, that the file says otherwise.

        Raises ConfigError for keys that may change what is computed and that the family does not know, and for values that
        our config cannot express.
        """
        return build(self.read_values(values, label) | dict(overrides or {}), label)

    def read_values(self, values: Mapping[str, Any], label: str) -> Flat:
        """``read_config``, as values by path."""
        for key in ("quantization_config", "compression_config"):
            if values.get(key) is not None:
                got = f"{key}={values[key]}"
                raise ConfigError(f"{label}: quantised weights are not read, got {got}; take the unquantised checkpoint")
        hf = Keys(values, label)
        try:
            flat = read_parts(self.parts, hf)
        except (TypeError, AttributeError, LookupError, ArithmeticError, ValueError) as error:
            raise ConfigError(f"{label}: a key has a value that no {self.name} has: {error}") from error
        hf.get(self.further, 0)
        refuse_unknown(hf, self.harmless, self.name)
        return flat

    def write_config(self, model: Model) -> dict[str, Any]:
        """Their config of ours.

        Raises ConfigError, listing every difference, where the family cannot express ``model`` exactly.
        """
        flat = flatten(model)
        keys: dict[str, Any] = {"architectures": [self.architecture], "model_type": self.name}
        try:
            keys |= write_parts(self.parts, flat)
            again = flatten(self.read_config(keys, f"config of a {self.name}"))
        except (ConfigError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self.name} cannot express this model: {error}") from error
        if wrong := differences(flat, again):
            raise ConfigError(f"{self.name} cannot express this model:\n  " + "\n  ".join(wrong))
        keys = dict.fromkeys(self.null_ids) | keys | dict.fromkeys(self.further[:1], 0)
        return keys | {"dtype": model.dtype.param, "torch_dtype": model.dtype.param}

    def is_left_out(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether a tensor of a file with the config ``values`` is none of the model's."""
        count = next((values[key] for key in self.further if values.get(key) is not None), 0)
        layer = re.match(r"model\.layers\.(\d+)\.", name)
        further = bool(count and layer and 0 <= int(layer[1]) - values["num_hidden_layers"] < count)
        return further or any(drop.covers(name) for drop in self.drops)

    def bind(self, model: Model, shapes: Mapping[str, Shape], stored: Collection[str] = ()) -> list[Bound]:
        """The tensor table written out for a model with the hub tensors ``shapes``; ``stored`` are the names in a file."""
        return bind(self.rows, shapes, flatten(model), stored)

    def constants_of(self, model: Model) -> dict[str, np.ndarray]:
        """The tensors of a file that follow from the config, by name; float32."""
        facts = flatten(model)
        return {name: array for constant in self.constants for name, array in constant.named(facts).items()}
