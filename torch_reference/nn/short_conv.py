"""The owner of a depthwise filter."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from torch_reference.nn.params import Maker
from torch_reference.ops.delta_rule.short_conv import short_conv


class ShortConv(nn.Module):
    """Each channel over its own last ``width`` columns, then SiLU."""

    def __init__(self, channels: int, width: int, make: Maker):
        super().__init__()
        self.weight = make.normal((channels, width))

    def forward(
        self,
        x: Float[Tensor, "B T N H"],
        segments: Int[Tensor, "B T"] | None = None,
        window: Float[Tensor, "B P C"] | None = None,
    ) -> tuple[Float[Tensor, "B T N H"], Float[Tensor, "B P C"]]:
        """The heads' dimensions are the channels. ``window`` is what earlier tokens left; the new one is returned as well."""
        out, window = short_conv(x.reshape(*x.shape[:2], -1), self.weight, segments=segments, state=window)
        return out.reshape(x.shape), window
