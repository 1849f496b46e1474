"""The gated linear unit of gpt-oss."""

from jaxtyping import Float
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.context import Context
from torch_reference.nn.linear import Linear
from torch_reference.nn.params import Maker
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.activation import clamped_swiglu
from torch_reference.ops.dropout import Noise


class ClampedGlu(nn.Module):
    """SwiGLU of clamped values, with 1 added to ``up(x)``."""

    def __init__(self, c: config.ClampedGlu, d_model: int, make: Maker):
        super().__init__()
        model, hidden = {"embed": d_model}, {"ffn": c.width(d_model)}
        self.gate_proj = Linear(model, hidden, make, bias=c.bias)
        self.up_proj = Linear(model, hidden, make, bias=c.bias)
        self.down_proj = Linear(hidden, model, make, bias=c.bias, std=make.residual_std)
        self.config = c

    def forward(
        self, x: Float[Tensor, "B T D"], context: Context, *, noise: Noise | None = None, tap: Tap = SILENT
    ) -> tuple[Float[Tensor, "B T D"], None]:
        """Apply to every position."""
        hidden = clamped_swiglu(self.gate_proj(x), self.up_proj(x), self.config.limit, self.config.alpha)
        tap("hidden", hidden)
        return self.down_proj(hidden), None
