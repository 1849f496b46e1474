"""VaultGemma: Gemma 2 without norms on the branches' outputs."""

from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.gemma2 import PARTS
from jax_transformer.convert.hf.skeleton import ATTENTION, ENDS, GLU, LAYER, modules

NORMS = {"input_layernorm": "attn_norm", "pre_feedforward_layernorm": "ffn_norm"}

VAULTGEMMA = Family(
    name="vaultgemma",
    architecture="VaultGemmaForCausalLM",
    parts=PARTS,
    rows=ENDS + modules(LAYER, ATTENTION | GLU | NORMS),
)
