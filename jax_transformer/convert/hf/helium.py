"""Helium: Llama with interleaved rotation."""

from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf.depth import Rope
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Field, Keys
from jax_transformer.convert.hf.skeleton import DECODER, LLAMA_ROWS, feed_forward, rms, sizes


class WholeWidth:
    """Heads that are together as wide as the model: the output projection of transformers has no other shape."""

    def read(self, hf: Keys) -> Flat:
        """Nothing. Raises ConfigError for heads of another width."""
        heads, width, wanted = hf.get("num_attention_heads"), hf.get("head_dim", 128), hf.get("hidden_size")
        if heads * width != wanted:
            raise ConfigError(
                f"{hf.label}: num_attention_heads={heads} * head_dim={width} = {heads * width} is not hidden_size={wanted}: "
                "in this family heads are together as wide as the model"
            )
        return {}

    def write(self, flat: Flat) -> dict[str, Any]:
        """Nothing: the sizes say it."""
        return {}


HELIUM = Family(
    name="helium",
    architecture="HeliumForCausalLM",
    parts=(
        DECODER,
        *sizes(4096, head_dim=128, kv_heads=20),
        WholeWidth(),
        *rms(1e-8, "after_weight"),
        *feed_forward("glu", "silu"),
        Field("layer.attention.qkv_bias", "attention_bias", False),
        Field("layer.ffn.bias", "mlp_bias", False),
        Rope(100_000.0, layout="interleaved"),
    ),
    rows=LLAMA_ROWS,
)
