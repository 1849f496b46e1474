"""The parameters of the experts of a mixture: those of E feed-forward networks, as single arrays."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.linear import Dims
from torch_reference.nn.params import Maker
from torch_reference.ops.activation import ACTIVATION, clamped_swiglu
from torch_reference.ops.experts import dense


class ExpertLinear(nn.Module):
    """The weights of a linear layer of each of ``count`` experts; the matmul is the implementation's."""

    def __init__(self, count: int, inputs: Dims, outputs: Dims, make: Maker, *, bias: bool, std: float | None = None):
        super().__init__()
        self.weight = make.normal((count, *outputs.values(), *inputs.values()), std=std)
        self.bias = make.constant(0.0, (count, *outputs.values())) if bias else None

    def values(self, dtype: torch.dtype) -> tuple[Float[Tensor, "E D F"], Float[Tensor, "E F"] | None]:
        """The kernel and the bias (None without one) in ``dtype``."""
        return self.weight.transpose(1, 2).to(dtype), None if self.bias is None else self.bias.to(dtype)


class Experts(nn.Module):
    """E networks of the kind of ``c``, which has no learned activation."""

    def __init__(self, c: config.DenseFfn, count: int, d_model: int, make: Maker):
        super().__init__()
        model, hidden = {"embed": d_model}, {"ffn": c.width(d_model)}
        gated = not isinstance(c, config.Mlp)
        self.gate_proj = ExpertLinear(count, model, hidden, make, bias=c.bias) if gated else None
        self.up_proj = ExpertLinear(count, model, hidden, make, bias=c.bias)
        self.down_proj = ExpertLinear(count, hidden, model, make, bias=c.bias, std=make.residual_std)
        self.config = c

    def parameters_in(self, dtype: torch.dtype) -> dense.Experts:
        """All of them, for a computation in ``dtype``."""
        up, up_bias = self.up_proj.values(dtype)
        down, down_bias = self.down_proj.values(dtype)
        gate, gate_bias = (None, None) if self.gate_proj is None else self.gate_proj.values(dtype)
        return dense.Experts(up, down, gate, up_bias, down_bias, gate_bias)

    def activate(self, *hidden: Tensor) -> Tensor:
        """Between the layers: of ``gate(x), up(x)``, or of ``up(x)`` where there is no gate."""
        c = self.config
        if isinstance(c, config.ClampedGlu):
            return clamped_swiglu(hidden[0], hidden[1], c.limit, c.alpha)
        activated = ACTIVATION[c.activation](hidden[0])
        return activated if len(hidden) == 1 else activated * hidden[1]
