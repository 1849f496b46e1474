"""The architectures that are read and written: a closed table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.convert.gguf.file import GgufFile
from jax_transformer.convert.gguf.keys import CAPS, FFN, NORM, RMS, USED, WINDOW, Key
from jax_transformer.convert.gguf.names import (
    ATTENTION,
    EXPERTS,
    GLU,
    MLP,
    PRE,
    QK_NORM,
    SANDWICH,
    W123,
    Layout,
)

Values = dict[str, Any]
"""A config of Hugging Face."""


@dataclass(frozen=True)
class Architecture:
    """One ``general.architecture``, and how its files differ from those of the family that it is."""

    name: str
    family: str
    modules: Mapping[str, str]
    """Of a block, in llama.cpp's names and those of the family."""
    keys: tuple[Key, ...] = (RMS, FFN)
    interleaved: tuple[str, ...] = ()
    """Modules of queries and keys whose halves of a head llama.cpp puts between each other."""
    one_plus: bool = False
    """Whether norms are stored as 1 + w."""
    biases: Mapping[str, str] = field(default_factory=dict)
    """Keys of the family's config that say if there are biases, and a tensor that is there if so."""
    implied: Callable[[Values], Values] = lambda _: {}
    """What no key says: further values, given the others."""

    def layout(self, values: Mapping[str, Any]) -> Layout:
        """Of the tensors of a model with the config ``values``."""
        heads = (values["num_attention_heads"], values["num_key_value_heads"])
        return Layout(self.modules, dict(zip(self.interleaved, heads, strict=False)), self.one_plus)


def _gemma(large: int) -> Callable[[Values], Values]:
    """Scores are scaled by the width of a head, in the model of ``large`` layers by the width of the model per head."""

    def implied(values: Values) -> Values:
        share = values["hidden_size"] // values["num_attention_heads"]
        return {"query_pre_attn_scalar": share if values["num_hidden_layers"] == large else values["head_dim"]}

    return implied


_BIAS = {"attention_bias": "blk.0.attn_q.bias"}

ARCHITECTURES = (
    Architecture(
        "llama",
        "llama",
        ATTENTION | PRE | GLU,
        interleaved=("attn_q", "attn_k"),
        biases=_BIAS | {"mlp_bias": "blk.0.ffn_up.bias"},
    ),
    Architecture(
        "llama",
        "mixtral",
        ATTENTION | PRE | W123,
        keys=(RMS, FFN, Key("expert_count", "num_local_experts"), USED),
        interleaved=("attn_q", "attn_k"),
    ),
    Architecture("qwen2", "qwen2", ATTENTION | PRE | GLU),
    Architecture("qwen3", "qwen3", ATTENTION | PRE | GLU | QK_NORM, biases=_BIAS),
    Architecture(
        "qwen3moe",
        "qwen3_moe",
        ATTENTION | PRE | QK_NORM | EXPERTS,
        keys=(
            RMS,
            Key("expert_count", "num_experts"),
            USED,
            Key("expert_feed_forward_length", "moe_intermediate_size"),
            Key("feed_forward_length", "intermediate_size", None),
        ),
        biases=_BIAS,
        implied=lambda _: {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
    ),
    Architecture("gemma", "gemma", ATTENTION | PRE | GLU, one_plus=True),
    Architecture(
        "gemma2",
        "gemma2",
        ATTENTION | SANDWICH | GLU,
        keys=(RMS, FFN, WINDOW, *CAPS),
        one_plus=True,
        implied=_gemma(46),
    ),
    Architecture(
        "gemma3",
        "gemma3_text",
        ATTENTION | SANDWICH | GLU | QK_NORM,
        keys=(
            RMS,
            FFN,
            WINDOW,
            Key("final_logit_softcapping", "final_logit_softcapping", None),
            Key("rope.freq_base_swa", "rope_local_base_freq", 10_000.0),
        ),
        one_plus=True,
        implied=_gemma(62),
    ),
    Architecture("starcoder2", "starcoder2", ATTENTION | PRE | MLP, keys=(NORM, FFN), biases={"use_bias": "blk.0.attn_q.bias"}),
)


def architecture_of(file: GgufFile) -> Architecture:
    """The architecture of a file. Raises ConfigError for one that is not known, WeightsError for a part of a model."""
    if file.metadata.get("split.count", 1) not in (0, 1):
        raise WeightsError(
            f"{file.path}: is one of {file.metadata['split.count']} parts; merge them with llama-gguf-split first"
        )
    name, kind = file.metadata.get("general.architecture"), file.metadata.get("general.type", "model")
    found = [one for one in ARCHITECTURES if one.name == name]
    if not found or kind != "model":
        raise ConfigError(
            f"{file.path}: general.architecture {name!r} of type {kind!r} is not read; "
            f"wanted a model, one of {sorted({one.name for one in ARCHITECTURES})}"
        )
    mixture = bool(file.metadata.get(f"{name}.expert_count", 0))
    return next((one for one in found if (USED in one.keys) == mixture), found[0])
