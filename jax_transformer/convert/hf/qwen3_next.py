"""Qwen3-Next: Qwen 3.5's layers in front of mixtures of experts, its projections put together by key head."""

from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.experts import (
    PROJECTIONS,
    TRAINING,
    EveryStep,
    Mixtures,
    dense,
    expert_rows,
    gated_mixture,
)
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.hybrid import MULTI_TOKEN, delta_row
from jax_transformer.convert.hf.qwen2_moe import SHARED
from jax_transformer.convert.hf.qwen3_5 import ROWS, parts
from jax_transformer.convert.hf.skeleton import GLU, LAYER, modules

MIXTURE = gated_mixture((512, 10, 512), 512, renormalized=True)
KEY_HEADS = Fuse("layers.{layer}.attention.num_key_heads")

QWEN3_NEXT = Family(
    name="qwen3_next",
    architecture="Qwen3NextForCausalLM",
    parts=(*parts(kv_heads=2), Mixtures(EveryStep(), MIXTURE, dense(5632))),
    rows=(
        *ROWS,
        *modules(LAYER, GLU | SHARED),
        *expert_rows("mlp", PROJECTIONS),
        delta_row("in_proj_qkvz.weight", tuple(f"{name}_proj.weight" for name in "qkvz"), KEY_HEADS),
        delta_row("in_proj_ba.weight", ("b_proj.weight", "a_proj.weight"), KEY_HEADS),
    ),
    drops=(MULTI_TOKEN,),
    harmless=TRAINING,
)
