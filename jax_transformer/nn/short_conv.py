"""The owner of a depthwise filter."""

from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer.nn.params import Maker
from jax_transformer.ops.delta_rule.short_conv import short_conv


class ShortConv(nnx.Module):
    """Each channel over its own last ``width`` columns, then SiLU."""

    def __init__(self, channels: int, width: int, make: Maker):
        self.filter = make.normal((channels, width), ("channels", "conv_width"), contracted=1)

    def __call__(
        self,
        x: Float[Array, "B T N H"],
        segments: Int[Array, "B T"] | None = None,
        window: Float[Array, "B P C"] | None = None,
    ) -> tuple[Float[Array, "B T N H"], Float[Array, "B P C"]]:
        """The heads' dimensions are the channels. ``window`` is what earlier tokens left; the new one is returned as well."""
        out, window = short_conv(x.reshape(*x.shape[:2], -1), self.filter[...], segments=segments, state=window)
        return out.reshape(x.shape), window
