"""The closed table of families."""

from jax_transformer.convert.hf.apertus import APERTUS
from jax_transformer.convert.hf.arcee import ARCEE
from jax_transformer.convert.hf.bart import BART, MARIAN, MBART, PEGASUS
from jax_transformer.convert.hf.bert import BERT
from jax_transformer.convert.hf.biogpt import BIOGPT, XGLM
from jax_transformer.convert.hf.bloom import BLOOM
from jax_transformer.convert.hf.codegen import CODEGEN
from jax_transformer.convert.hf.cohere import COHERE
from jax_transformer.convert.hf.cohere2 import COHERE2
from jax_transformer.convert.hf.cwm import CWM
from jax_transformer.convert.hf.deepseek_v2 import DEEPSEEK_V2
from jax_transformer.convert.hf.deepseek_v3 import DEEPSEEK_V3
from jax_transformer.convert.hf.distilbert import DISTILBERT
from jax_transformer.convert.hf.dots1 import DOTS1
from jax_transformer.convert.hf.electra import ELECTRA
from jax_transformer.convert.hf.ernie4_5 import ERNIE4_5
from jax_transformer.convert.hf.ernie4_5_moe import ERNIE4_5_MOE
from jax_transformer.convert.hf.eurobert import EUROBERT
from jax_transformer.convert.hf.exaone4 import EXAONE4
from jax_transformer.convert.hf.falcon import FALCON
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flex_olmo import FLEX_OLMO
from jax_transformer.convert.hf.gemma import GEMMA
from jax_transformer.convert.hf.gemma2 import GEMMA2
from jax_transformer.convert.hf.gemma3 import GEMMA3
from jax_transformer.convert.hf.glm import GLM
from jax_transformer.convert.hf.glm4 import GLM4
from jax_transformer.convert.hf.glm4_moe import GLM4_MOE
from jax_transformer.convert.hf.gpt2 import GPT2
from jax_transformer.convert.hf.gpt_bigcode import GPT_BIGCODE
from jax_transformer.convert.hf.gpt_neo import GPT_NEO
from jax_transformer.convert.hf.gpt_neox import GPT_NEOX
from jax_transformer.convert.hf.gpt_oss import GPT_OSS
from jax_transformer.convert.hf.gptj import GPTJ
from jax_transformer.convert.hf.granite import GRANITE
from jax_transformer.convert.hf.granitemoe import GRANITEMOE
from jax_transformer.convert.hf.helium import HELIUM
from jax_transformer.convert.hf.hunyuan import HUNYUAN
from jax_transformer.convert.hf.hunyuan_moe import HUNYUAN_MOE
from jax_transformer.convert.hf.jais2 import JAIS2
from jax_transformer.convert.hf.llama import LLAMA
from jax_transformer.convert.hf.llama4 import LLAMA4
from jax_transformer.convert.hf.minimax_m2 import MINIMAX_M2
from jax_transformer.convert.hf.ministral import MINISTRAL
from jax_transformer.convert.hf.ministral3 import MINISTRAL3
from jax_transformer.convert.hf.mistral import MISTRAL
from jax_transformer.convert.hf.mixtral import MIXTRAL
from jax_transformer.convert.hf.modernbert import MODERNBERT, MODERNBERT_DECODER
from jax_transformer.convert.hf.mpt import MPT
from jax_transformer.convert.hf.nanochat import NANOCHAT
from jax_transformer.convert.hf.nemotron import NEMOTRON
from jax_transformer.convert.hf.olmo import OLMO
from jax_transformer.convert.hf.olmo2 import OLMO2
from jax_transformer.convert.hf.olmo3 import OLMO3
from jax_transformer.convert.hf.olmo_hybrid import OLMO_HYBRID
from jax_transformer.convert.hf.olmoe import OLMOE
from jax_transformer.convert.hf.opt import OPT
from jax_transformer.convert.hf.persimmon import PERSIMMON
from jax_transformer.convert.hf.phi import PHI
from jax_transformer.convert.hf.phi3 import PHI3
from jax_transformer.convert.hf.qwen2 import QWEN2
from jax_transformer.convert.hf.qwen2_moe import QWEN2_MOE
from jax_transformer.convert.hf.qwen3 import QWEN3
from jax_transformer.convert.hf.qwen3_5 import QWEN3_5
from jax_transformer.convert.hf.qwen3_moe import QWEN3_MOE
from jax_transformer.convert.hf.qwen3_next import QWEN3_NEXT
from jax_transformer.convert.hf.roberta import ROBERTA
from jax_transformer.convert.hf.seed_oss import SEED_OSS
from jax_transformer.convert.hf.smollm3 import SMOLLM3
from jax_transformer.convert.hf.stablelm import STABLELM
from jax_transformer.convert.hf.starcoder2 import STARCODER2
from jax_transformer.convert.hf.t5 import MT5, T5, UMT5
from jax_transformer.convert.hf.t5gemma import T5GEMMA
from jax_transformer.convert.hf.vaultgemma import VAULTGEMMA

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
        QWEN3_5,
        QWEN3_NEXT,
        OLMO_HYBRID,
        PEGASUS,
        MT5,
        EUROBERT,
        MINISTRAL3,
        NANOCHAT,
        APERTUS,
        MIXTRAL,
        QWEN3_MOE,
        QWEN2_MOE,
        OLMOE,
        GRANITEMOE,
        DEEPSEEK_V3,
        DEEPSEEK_V2,
        DOTS1,
        GLM4_MOE,
        GPT_OSS,
        ERNIE4_5_MOE,
        HUNYUAN_MOE,
        FLEX_OLMO,
        MINIMAX_M2,
        LLAMA4,
        MODERNBERT,
        MODERNBERT_DECODER,
        T5GEMMA,
    )
}
"""``model_type`` to family; an export takes the first that expresses a model exactly."""
