"""Position modules: what attention does to its queries and keys, by config."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.ops.position import apply_rope, rope_frequencies


class Rope(nn.Module):
    """Rotary position embedding; no parameters."""

    def __init__(self, c: config.Rope, head_dim: int):
        super().__init__()
        # A numpy array, not a buffer: it keeps its float64 when the module is cast, and its values on the meta device.
        self.frequencies = rope_frequencies(c.base, c.rotary_dim(head_dim))
        self.layout = c.layout

    def forward(self, x: Float[Tensor, "B T N H"], positions: Int[Tensor, "#B T"]) -> Float[Tensor, "B T N H"]:
        """Rotate queries or keys by their positions."""
        return apply_rope(x, positions, self.frequencies, self.layout)


class NoPosition(nn.Module):
    """Leaves queries and keys as they are."""

    def __init__(self, c: config.NoPosition, head_dim: int):
        super().__init__()

    def forward(self, x: Float[Tensor, "B T N H"], positions: Int[Tensor, "#B T"]) -> Float[Tensor, "B T N H"]:
        """The input."""
        return x


POSITION: dict[type[config.Config], Callable[..., nn.Module]] = {config.Rope: Rope, config.NoPosition: NoPosition}
