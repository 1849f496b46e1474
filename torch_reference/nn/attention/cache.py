"""What a layer remembers between decoding steps."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_reference.ops.precision import at_least_float32


@dataclass(frozen=True)
class KVCache:
    """Keys (after rotation) and values of the tokens so far, in preallocated slots."""

    keys: Float[Tensor, "B S K H"]
    values: Float[Tensor, "B S K V"]

    @staticmethod
    def empty(
        shape: tuple[int, int, int, int], dtype: torch.dtype, v_dim: int | None = None, device: torch.device | None = None
    ) -> "KVCache":
        """Zeros: keys of shape [B, S, K, H], values as wide or ``v_dim`` wide."""
        shapes = (shape, (*shape[:3], v_dim or shape[3]))
        return KVCache(*(torch.zeros(shape, dtype=dtype, device=device) for shape in shapes))

    def write(self, keys: Float[Tensor, "B T K H"], values: Float[Tensor, "B T K V"], at: Int[Tensor, ""]) -> "KVCache":
        """A new cache with T tokens stored in slots ``at`` and after. The caller has checked the room."""
        return KVCache(store(self.keys, keys, at), store(self.values, values, at))


@dataclass(frozen=True)
class LatentCache:
    """What multi-head latent attention expands keys and values from, in preallocated slots."""

    latents: Float[Tensor, "B S R"]
    """Normalised."""
    rope_keys: Float[Tensor, "B S H"]
    """Rotated, the same for every head."""

    @staticmethod
    def empty(
        shape: tuple[int, int], widths: tuple[int, int], dtype: torch.dtype, device: torch.device | None = None
    ) -> "LatentCache":
        """Zeros of shape [B, S] times the widths of latents and of rotated keys."""
        return LatentCache(*(torch.zeros((*shape, width), dtype=dtype, device=device) for width in widths))

    def write(self, latents: Float[Tensor, "B T R"], rope_keys: Float[Tensor, "B T H"], at: Int[Tensor, ""]) -> "LatentCache":
        """A new cache with T tokens stored in slots ``at`` and after. The caller has checked the room."""
        return LatentCache(store(self.latents, latents, at), store(self.rope_keys, rope_keys, at))


@dataclass(frozen=True)
class LinearCache:
    """The sums over all tokens so far that linear attention reads, in float32 at least."""

    sums: Float[Tensor, "B K H V"]
    """Of ``phi(k) v^T``."""
    norms: Float[Tensor, "B K H"]
    """Of ``phi(k)``."""

    @staticmethod
    def empty(shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device | None = None) -> "LinearCache":
        """Zeros: sums of shape [B, K, H, V]."""
        wide = at_least_float32(dtype)
        return LinearCache(*(torch.zeros(part, dtype=wide, device=device) for part in (shape, shape[:-1])))


@dataclass(frozen=True)
class DeltaCache:
    """What Gated DeltaNet carries from token to token."""

    q_window: Float[Tensor, "B P Q"]
    """The last columns that the short convolution saw, before it."""
    k_window: Float[Tensor, "B P Q"]
    v_window: Float[Tensor, "B P C"]
    state: Float[Tensor, "B N H V"]
    """In float32 at least."""

    @staticmethod
    def empty(
        shape: tuple[int, int, int, int], past: int, key_channels: int, dtype: torch.dtype, device: torch.device | None = None
    ) -> "DeltaCache":
        """Zeros: a state of shape [B, N, H, V], windows of ``past`` columns of all key or value heads."""
        batch, heads, _, v_dim = shape
        widths = (key_channels, key_channels, heads * v_dim)
        q, k, v = (torch.zeros((batch, past, width), dtype=dtype, device=device) for width in widths)
        return DeltaCache(q, k, v, torch.zeros(shape, dtype=at_least_float32(dtype), device=device))


def store(slots: Float[Tensor, "B S *D"], new: Float[Tensor, "B T *D"], at: Int[Tensor, ""]) -> Float[Tensor, "B S *D"]:
    """A copy of ``slots`` with ``new`` in those from ``at`` on; JAX has this as ``dynamic_update_slice_in_dim``."""
    return slots.index_copy(1, at + torch.arange(new.shape[1], device=new.device), new)
