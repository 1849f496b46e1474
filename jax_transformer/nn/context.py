"""What every layer of a stack reads besides its input."""

from dataclasses import dataclass

import jax
from jaxtyping import Array, Float

from jax_transformer.ops.mask import Mask
from jax_transformer.ops.position_bias import OffsetBias


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Context:
    """The same for all layers: who sees whom, and what comes from elsewhere."""

    mask: Mask
    shared_bias: OffsetBias | None = None
    """Position bias of the stack, for layers that use it."""
    source: Float[Array, "B S D"] | None = None
    """Output of the encoder, for cross-attention; None where its keys and values are cached."""
    source_mask: Mask | None = None
    """From the decoder's queries to the encoder's keys."""
