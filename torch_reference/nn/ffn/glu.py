"""The gated linear unit family."""

from jaxtyping import Float
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.activation import build_activation
from torch_reference.nn.context import Context
from torch_reference.nn.linear import Linear
from torch_reference.nn.params import Maker
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.dropout import Noise


class Glu(nn.Module):
    """``down(act(gate(x)) * up(x))``."""

    def __init__(self, c: config.Glu, d_model: int, make: Maker):
        super().__init__()
        model, hidden = {"embed": d_model}, {"ffn": c.width(d_model)}
        self.gate_proj = Linear(model, hidden, make, bias=c.bias)
        self.up_proj = Linear(model, hidden, make, bias=c.bias)
        self.down_proj = Linear(hidden, model, make, bias=c.bias, std=make.residual_std)
        self.activation = build_activation(c.activation, make)

    def forward(
        self, x: Float[Tensor, "B T D"], context: Context, *, noise: Noise | None = None, tap: Tap = SILENT
    ) -> tuple[Float[Tensor, "B T D"], None]:
        """Apply to every position."""
        hidden = self.activation(self.gate_proj(x)) * self.up_proj(x)
        tap("hidden", hidden)
        return self.down_proj(hidden), None
