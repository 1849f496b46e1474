"""Named intermediate values: the same names in both packages, so that a difference can be located."""

from jaxtyping import Shaped
from torch import Tensor


class Tap:
    """Collects values under dotted names; without a dict to collect into it does nothing."""

    def __init__(self, values: dict[str, Shaped[Tensor, "..."]] | None = None, prefix: str = ""):
        self.values = values
        self.prefix = prefix

    def __call__(self, name: str, value: Shaped[Tensor, "..."]) -> None:
        """Record ``value`` as ``prefix + name``."""
        if self.values is not None:
            self.values[self.prefix + name] = value

    def child(self, name: str) -> "Tap":
        """A tap whose names begin with ``name.``."""
        return Tap(self.values, f"{self.prefix}{name}.")


SILENT = Tap()
