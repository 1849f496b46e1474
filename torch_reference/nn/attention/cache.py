"""What a layer remembers between decoding steps."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
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
        slots = at + torch.arange(keys.shape[1], device=keys.device)
        return KVCache(self.keys.index_copy(1, slots, keys), self.values.index_copy(1, slots, values))
