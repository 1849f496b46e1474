"""Position modules: what attention does to its queries and keys, by config."""

from collections.abc import Callable

from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer import config
from jax_transformer.ops.position import apply_rope, rope_frequencies


class Rope(nnx.Module):
    """Rotary position embedding; no parameters."""

    def __init__(self, c: config.Rope, head_dim: int):
        self.base = c.base
        self.rotary_dim = c.rotary_dim(head_dim)
        self.layout = c.layout

    def __call__(self, x: Float[Array, "B T N H"], positions: Int[Array, "#B T"]) -> Float[Array, "B T N H"]:
        """Rotate queries or keys by their positions."""
        return apply_rope(x, positions, rope_frequencies(self.base, self.rotary_dim), self.layout)


class NoPosition(nnx.Module):
    """Leaves queries and keys as they are."""

    def __init__(self, c: config.NoPosition, head_dim: int):
        pass

    def __call__(self, x: Float[Array, "B T N H"], positions: Int[Array, "#B T"]) -> Float[Array, "B T N H"]:
        """The input."""
        return x


POSITION: dict[type[config.Config], Callable[..., nnx.Module]] = {config.Rope: Rope, config.NoPosition: NoPosition}
