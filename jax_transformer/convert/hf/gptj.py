"""GPT-J: parallel branches after one norm, interleaved rotation of the first dimensions."""

from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.gpt2 import ENDS, LAYER
from jax_transformer.convert.hf.parts import Fixed
from jax_transformer.convert.hf.rope import RotaryDim
from jax_transformer.convert.hf.skeleton import feed_forward, gpt_sizes, layer_norm, modules
from jax_transformer.convert.rows import Drop

NAMES = {f"attn.{name}_proj": f"attn.{name}_proj" for name in "qkv"} | {"attn.out_proj": "attn.o_proj", "ln_1": "attn_norm"}
BUFFERS = ("bias", "masked_bias", "embed_positions")

PARTS = (
    *gpt_sizes(tied=False),
    *layer_norm("layer_norm_epsilon", 1e-5),
    *feed_forward("mlp", "gelu_new", "activation_function"),
    Fixed({"layer.parallel": "shared", "layer.ffn.bias": True, "head.bias": True}),
    RotaryDim(64),
)
HARMLESS = (
    "n_ctx rotary gradient_checkpointing scale_attn_weights summary_type summary_use_proj "
    "summary_activation summary_proj_to_labels summary_first_dropout"
)

GPTJ = Family(
    name="gptj",
    architecture="GPTJForCausalLM",
    parts=PARTS,
    rows=ENDS + modules(LAYER, NAMES | {"mlp.fc_in": "ffn.up_proj", "mlp.fc_out": "ffn.down_proj"}),
    drops=tuple(Drop(f"{LAYER}attn.{name}", "a buffer") for name in BUFFERS),
    prefix="transformer.",
    head=("lm_head.weight", "transformer.wte.weight"),
    harmless=HARMLESS,
)
