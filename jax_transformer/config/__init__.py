"""The config tree: one frozen, strict, framework-free description for both packages."""

from jax_transformer.config.attention import Attention, Softmax
from jax_transformer.config.base import Config
from jax_transformer.config.block import Block, Stack
from jax_transformer.config.data import (
    BpeTokenizer,
    Builtin,
    ByteTokenizer,
    CharTokenizer,
    Data,
    JsonLines,
    Shakespeare,
    Source,
    TextFiles,
    Tokenizer,
    TokenizerFile,
)
from jax_transformer.config.ffn import Activation, Ffn, Glu, Mlp
from jax_transformer.config.model import Decoder, Dtype, DtypeName, Head, Init, Model
from jax_transformer.config.norm import LayerNorm, Norm, RMSNorm
from jax_transformer.config.position import NoPosition, Position, Rope
from jax_transformer.config.run import AdamW, Checkpoints, DropoutAnneal, Mesh, Run, Train
from jax_transformer.config.sampling import Sampling

__all__ = [
    "Activation",
    "AdamW",
    "Attention",
    "Block",
    "BpeTokenizer",
    "Builtin",
    "ByteTokenizer",
    "CharTokenizer",
    "Checkpoints",
    "Config",
    "Data",
    "Decoder",
    "DropoutAnneal",
    "Dtype",
    "DtypeName",
    "Ffn",
    "Glu",
    "Head",
    "Init",
    "JsonLines",
    "LayerNorm",
    "Mesh",
    "Mlp",
    "Model",
    "NoPosition",
    "Norm",
    "Position",
    "RMSNorm",
    "Rope",
    "Run",
    "Sampling",
    "Shakespeare",
    "Softmax",
    "Source",
    "Stack",
    "TextFiles",
    "Tokenizer",
    "TokenizerFile",
    "Train",
]
