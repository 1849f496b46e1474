"""nanochat: norms without parameters, after the embedding too, and pairs that turn backwards."""

from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.parts import CAP, Field, Fixed
from jax_transformer.convert.hf.skeleton import ATTENTION, DECODER, ENDS, LAYER, feed_forward, modules, rms, sizes

QK_NORM = "layer.attention.qk_norm"

NANOCHAT = Family(
    name="nanochat",
    architecture="NanoChatForCausalLM",
    parts=(
        DECODER,
        *sizes(2048),
        *rms(1e-6, "before_weight", "none", "embedding.norm", f"{QK_NORM}.norm"),
        Fixed({f"{QK_NORM}.scope": "head", f"{QK_NORM}.place": "after_rope"}),
        *feed_forward("mlp", "relu2"),
        Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
        Field("head.softcap", "final_logit_softcapping", 15.0, CAP, null=None),
        Rope(layout="half_reversed"),
    ),
    rows=ENDS + modules(LAYER, ATTENTION | {"mlp.fc1": "ffn.up_proj", "mlp.fc2": "ffn.down_proj"}),
)
