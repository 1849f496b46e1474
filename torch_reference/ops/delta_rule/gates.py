"""How fast the state of the gated delta rule decays."""

import torch
from jaxtyping import Float
from torch import Tensor

from torch_reference.ops.precision import at_least_float32


def decay_gate(a: Float[Tensor, "B T N"], a_log: Float[Tensor, "N"], dt_bias: Float[Tensor, "N"]) -> Float[Tensor, "B T N"]:
    """The logarithm of what is kept, ``-exp(a_log) * log(1 + exp(a + dt_bias))``, in float32 at least."""
    wide = at_least_float32(a.dtype)
    # Not torch's softplus, which leaves out the 1 above 20.
    step = torch.logaddexp(a.to(wide) + dt_bias.to(wide)[None, None, :], a.new_zeros((), dtype=wide))
    return -torch.exp(a_log.to(wide))[None, None, :] * step
