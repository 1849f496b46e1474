"""Nonlinearities as modules, so that one with parameters can stand wherever one without does."""

import math

from flax import nnx
from jaxtyping import Array, Float

from jax_transformer import config
from jax_transformer.nn.params import Maker
from jax_transformer.ops.activation import ACTIVATION, XIELU_BETA, xielu


class Activation(nnx.Module):
    """A nonlinearity without parameters."""

    def __init__(self, name: config.Activation):
        self.name = name

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply to every element."""
        return ACTIVATION[self.name](x)


class Xielu(nnx.Module):
    """xIELU, with two learned numbers under a softplus. Both curvatures begin at 0.8."""

    def __init__(self, make: Maker):
        self.alpha_p = make.constant(math.log(math.expm1(0.8)), (1,), ("scalar",))
        self.alpha_n = make.constant(math.log(math.expm1(0.8 - XIELU_BETA)), (1,), ("scalar",))

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply to every element."""
        return xielu(x, self.alpha_p[...], self.alpha_n[...])


def build_activation(name: config.Activation, make: Maker) -> nnx.Module:
    """The module of an activation's name."""
    return Xielu(make) if name == "xielu" else Activation(name)
