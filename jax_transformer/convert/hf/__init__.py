"""Hugging Face checkpoints: the closed table of families, and folders in their layout <-> hub tensors. Framework-free."""

from collections.abc import Callable
from pathlib import Path

from jax_transformer.config import Model
from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.config.suggest import closest, did_you_mean
from jax_transformer.convert.hf.arcee import ARCEE
from jax_transformer.convert.hf.bart import BART, MARIAN, MBART
from jax_transformer.convert.hf.bert import BERT
from jax_transformer.convert.hf.biogpt import BIOGPT, XGLM
from jax_transformer.convert.hf.bloom import BLOOM
from jax_transformer.convert.hf.codegen import CODEGEN
from jax_transformer.convert.hf.cohere import COHERE
from jax_transformer.convert.hf.cohere2 import COHERE2
from jax_transformer.convert.hf.cwm import CWM
from jax_transformer.convert.hf.distilbert import DISTILBERT
from jax_transformer.convert.hf.electra import ELECTRA
from jax_transformer.convert.hf.ernie4_5 import ERNIE4_5
from jax_transformer.convert.hf.exaone4 import EXAONE4
from jax_transformer.convert.hf.falcon import FALCON
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.folder import (
    HubSource,
    HubView,
    Shapes,
    companions,
    is_hf,
    open_folder,
    open_tensors,
    read_values,
    write_folder,
)
from jax_transformer.convert.hf.gemma import GEMMA
from jax_transformer.convert.hf.gemma2 import GEMMA2
from jax_transformer.convert.hf.gemma3 import GEMMA3
from jax_transformer.convert.hf.glm import GLM
from jax_transformer.convert.hf.glm4 import GLM4
from jax_transformer.convert.hf.gpt2 import GPT2
from jax_transformer.convert.hf.gpt_bigcode import GPT_BIGCODE
from jax_transformer.convert.hf.gpt_neo import GPT_NEO
from jax_transformer.convert.hf.gpt_neox import GPT_NEOX
from jax_transformer.convert.hf.gptj import GPTJ
from jax_transformer.convert.hf.granite import GRANITE
from jax_transformer.convert.hf.helium import HELIUM
from jax_transformer.convert.hf.hunyuan import HUNYUAN
from jax_transformer.convert.hf.jais2 import JAIS2
from jax_transformer.convert.hf.llama import LLAMA
from jax_transformer.convert.hf.ministral import MINISTRAL
from jax_transformer.convert.hf.mistral import MISTRAL
from jax_transformer.convert.hf.mpt import MPT
from jax_transformer.convert.hf.nemotron import NEMOTRON
from jax_transformer.convert.hf.olmo import OLMO
from jax_transformer.convert.hf.olmo2 import OLMO2
from jax_transformer.convert.hf.olmo3 import OLMO3
from jax_transformer.convert.hf.opt import OPT
from jax_transformer.convert.hf.persimmon import PERSIMMON
from jax_transformer.convert.hf.phi import PHI
from jax_transformer.convert.hf.phi3 import PHI3
from jax_transformer.convert.hf.qwen2 import QWEN2
from jax_transformer.convert.hf.qwen3 import QWEN3
from jax_transformer.convert.hf.roberta import ROBERTA
from jax_transformer.convert.hf.seed_oss import SEED_OSS
from jax_transformer.convert.hf.smollm3 import SMOLLM3
from jax_transformer.convert.hf.stablelm import STABLELM
from jax_transformer.convert.hf.starcoder2 import STARCODER2
from jax_transformer.convert.hf.t5 import T5, UMT5
from jax_transformer.convert.hf.vaultgemma import VAULTGEMMA

__all__ = [
    "FAMILY",
    "HubSource",
    "HubView",
    "Shapes",
    "choose",
    "companions",
    "family_named",
    "is_hf",
    "open_hf",
    "open_tensors",
    "write_folder",
]

FAMILY: dict[str, Family] = {
    family.name: family
    for family in (
        LLAMA,
        MISTRAL,
        QWEN2,
        QWEN3,
        GEMMA,
        GEMMA2,
        GEMMA3,
        PHI3,
        OLMO2,
        SMOLLM3,
        GRANITE,
        COHERE,
        GPT2,
        GPT_NEOX,
        PHI,
        STARCODER2,
        STABLELM,
        OLMO,
        GLM,
        GLM4,
        GPTJ,
        OPT,
        BLOOM,
        FALCON,
        NEMOTRON,
        OLMO3,
        COHERE2,
        MINISTRAL,
        SEED_OSS,
        HELIUM,
        ARCEE,
        BERT,
        ROBERTA,
        T5,
        BART,
        MBART,
        MARIAN,
        UMT5,
        GPT_BIGCODE,
        GPT_NEO,
        MPT,
        EXAONE4,
        CWM,
        HUNYUAN,
        ERNIE4_5,
        VAULTGEMMA,
        JAIS2,
        PERSIMMON,
        CODEGEN,
        BIOGPT,
        XGLM,
        DISTILBERT,
        ELECTRA,
    )
}
"""``model_type`` to family; an export takes the first that expresses a model exactly."""


def family_named(name: str) -> Family:
    """The family of a ``model_type``. Raises ConfigError naming the closest one that there is."""
    if name not in FAMILY:
        near = did_you_mean(closest(name, FAMILY))
        raise ConfigError(f"model_type {name!r} is not supported{near}; supported: {', '.join(FAMILY)}")
    return FAMILY[name]


def open_hf(folder: str | Path, shapes_of: Callable[[Model], Shapes], compute: str | None = None) -> tuple[Model, HubView]:
    """Config and hub tensors of a folder in Hugging Face layout; ``shapes_of`` gives the hub tensors of a config.

    The model computes in the dtype ``compute``; None: in that of the weights.
    """
    values = read_values(folder)
    if not isinstance(values.get("model_type"), str):
        raise WeightsError(f"{folder}: its config.json has no model_type; wanted a checkpoint of Hugging Face")
    return open_folder(folder, family_named(values["model_type"]), shapes_of, compute)


def choose(config: Model, name: str | None = None) -> Family:
    """The family called ``name``, or the first one that expresses ``config`` exactly.

    Raises ConfigError with what stands in the way: of the named family, or of the one that comes closest.
    """
    if name is not None:
        family_named(name).write_config(config)
        return FAMILY[name]
    problems: list[str] = []
    for family in FAMILY.values():
        try:
            family.write_config(config)
        except ConfigError as error:
            problems.append(str(error))
        else:
            return family
    raise ConfigError("no family of Hugging Face that we know has this model; the closest: " + min(problems, key=_count))


def _count(problem: str) -> tuple[bool, int]:
    return "\n" not in problem, problem.count("\n")
