"""Nonlinearities as modules, so that one with parameters can stand wherever one without does."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.params import Maker
from torch_reference.ops.activation import ACTIVATION, XIELU_BETA, xielu


class Activation(nn.Module):
    """A nonlinearity without parameters."""

    def __init__(self, name: config.Activation):
        super().__init__()
        self.name = name

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Apply to every element."""
        return ACTIVATION[self.name](x)


class Xielu(nn.Module):
    """xIELU, with two learned numbers under a softplus. Both curvatures begin at 0.8."""

    def __init__(self, make: Maker):
        super().__init__()
        self.alpha_p = make.constant(math.log(math.expm1(0.8)), (1,))
        self.alpha_n = make.constant(math.log(math.expm1(0.8 - XIELU_BETA)), (1,))

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Apply to every element."""
        return xielu(x, self.alpha_p, self.alpha_n)


def build_activation(name: config.Activation, make: Maker) -> nn.Module:
    """The module of an activation's name."""
    return Xielu(make) if name == "xielu" else Activation(name)
