"""What a layer remembers between decoding steps."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class KVCache:
    """Keys (after rotation) and values of the tokens so far, in preallocated slots."""

    keys: Float[Tensor, "B S K H"]
    values: Float[Tensor, "B S K H"]

    @staticmethod
    def empty(shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device | None = None) -> "KVCache":
        """Zeros of shape [B, S, K, H]."""
        return KVCache(torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device))

    def write(self, keys: Float[Tensor, "B T K H"], values: Float[Tensor, "B T K H"], at: Int[Tensor, ""]) -> "KVCache":
        """A new cache with T tokens stored in slots ``at`` and after. The caller has checked the room."""
        return KVCache(store(self.keys, keys, at), store(self.values, values, at))


def store(slots: Shaped[Tensor, "B S *D"], new: Shaped[Tensor, "B T *D"], at: Int[Tensor, ""]) -> Shaped[Tensor, "B S *D"]:
    """A copy of ``slots`` with ``new`` from slot ``at`` on; a tensor ``at`` stays on its device."""
    index = torch.arange(new.shape[1], device=slots.device) + at
    return slots.index_copy(1, index, new)
