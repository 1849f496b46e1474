"""What every layer of a stack reads besides its input."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from torch_reference.ops.mask import Mask
from torch_reference.ops.position_bias import OffsetBias


@dataclass(frozen=True)
class Context:
    """The same for all layers: who sees whom, and what comes from elsewhere."""

    mask: Mask
    shared_bias: OffsetBias | None = None
    """Position bias of the stack, for layers that use it."""
    source: Float[Tensor, "B S D"] | None = None
    """Output of the encoder, for cross-attention; None where its keys and values are cached."""
    source_mask: Mask | None = None
    """From the decoder's queries to the encoder's keys."""
