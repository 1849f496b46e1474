"""The gated linear unit family."""

from flax import nnx
from jaxtyping import Array, Float

from jax_transformer import config
from jax_transformer.nn.activation import build_activation
from jax_transformer.nn.context import Context
from jax_transformer.nn.linear import Linear
from jax_transformer.nn.params import Maker
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.constrain import constrain
from jax_transformer.ops.dropout import Noise


class Glu(nnx.Module):
    """``down(act(gate(x)) * up(x))``."""

    def __init__(self, c: config.Glu, d_model: int, make: Maker):
        model, hidden = {"embed": d_model}, {"ffn": c.width(d_model)}
        self.gate_proj = Linear(model, hidden, make, bias=c.bias)
        self.up_proj = Linear(model, hidden, make, bias=c.bias)
        self.down_proj = Linear(hidden, model, make, bias=c.bias, std=make.residual_std)
        self.activation = build_activation(c.activation, make)

    def __call__(
        self, x: Float[Array, "B T D"], context: Context, *, noise: Noise | None = None, tap: Tap = SILENT
    ) -> tuple[Float[Array, "B T D"], None]:
        """Apply to every position."""
        hidden = self.activation(self.gate_proj(x)) * self.up_proj(x)
        hidden = constrain(hidden, "batch", None, "ffn")
        tap("hidden", hidden)
        return self.down_proj(hidden), None
