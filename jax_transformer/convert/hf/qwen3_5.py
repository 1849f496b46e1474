"""Qwen 3.5, text: gated delta rules on three layers of four, gated softmax attention on the fourth."""

from jax_transformer.convert.byte_ops import Chain, Fuse, Insert
from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.hybrid import (
    MULTI_TOKEN,
    NORM_EPS,
    OWN,
    SOFTMAX,
    Mixers,
    delta,
    delta_row,
    delta_rows,
    every_full_among_linear,
)
from jax_transformer.convert.hf.parts import Field, Fixed, Only, Part
from jax_transformer.convert.hf.skeleton import (
    ATTENTION,
    ENDS,
    GLU,
    LAYER,
    OURS,
    PRE,
    QK_NORM,
    feed_forward,
    heads,
    modules,
    rms,
    widths,
)
from jax_transformer.convert.rows import Row

QK = "layer.attention.qk_norm"
FULL_PARTS = (
    Fixed({"layer.attention.kind": "softmax", "layer.attention.output_gate": "element", f"{QK}.scope": "head"}),
    Fixed({f"{QK}.norm.kind": "rms_norm", f"{QK}.norm.weight": "one_plus", f"{QK}.norm.cast": "after_weight"}),
    Field(f"{QK}.norm.eps", "rms_norm_eps", 1e-6),
    Only("attention_bias", (False,), "the gate has no bias of its own"),
    Rope(fraction=0.25),
)


def parts(kv_heads: int) -> tuple[Part, ...]:
    """The config, but for the networks after attention."""
    return (
        Fixed({"kind": "decoder"}),
        *widths(32768),
        *rms(1e-6, "after_weight", "one_plus"),
        Mixers(
            every_full_among_linear,
            full=(*heads(256, kv_heads), *FULL_PARTS),
            linear=delta(Field(NORM_EPS, "rms_norm_eps", 1e-6)),
        ),
        Only("hidden_act", ("silu", "swish"), "the short convolutions have it too, and ours have SiLU"),
        Only("attn_output_gate", (True,), "attention without its gate is another family"),
    )


PROJECTIONS = {name: ours for name, ours in ATTENTION.items() if name != "self_attn.q_proj"}
ROWS = (
    *ENDS,
    *modules(LAYER, PRE),
    *modules(LAYER, PROJECTIONS | QK_NORM, when=SOFTMAX),
    Row(
        f"{LAYER}self_attn.q_proj.weight",
        (f"{OURS}attn.q_proj.weight", f"{OURS}attn.g_proj.weight"),
        Fuse("layers.{layer}.attention.num_heads"),
    ),
    *delta_rows(OWN | {"norm.weight": "norm.weight", "out_proj.weight": "o_proj.weight"}),
    delta_row("conv1d.weight", ("q_conv.weight", "k_conv.weight", "v_conv.weight"), Chain((Fuse(), Insert()))),
)
"""What Qwen 3.5 and Qwen3-Next have in common."""

QWEN3_5 = Family(
    name="qwen3_5_text",
    architecture="Qwen3_5ForCausalLM",
    parts=(*parts(kv_heads=4), Field("layer.ffn.hidden_dim", "intermediate_size"), *feed_forward("glu", "silu")),
    rows=(
        *ROWS,
        *modules(LAYER, GLU),
        *delta_rows({f"in_proj_{name}.weight": f"{name}_proj.weight" for name in "zba"}),
        delta_row("in_proj_qkv.weight", ("q_proj.weight", "k_proj.weight", "v_proj.weight"), Fuse()),
    ),
    drops=(MULTI_TOKEN,),
    harmless="mtp_num_hidden_layers mtp_use_dedicated_embeddings mamba_ssm_dtype mlp_only_layers",
)
