"""Depth: a repeating pattern of blocks, as a flat list of layers."""

from dataclasses import dataclass
from typing import Any, cast

from jaxtyping import Float, Int
from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint

from jax_transformer import config
from torch_reference.nn.attention.cache import KVCache
from torch_reference.nn.block import Block
from torch_reference.nn.params import Maker
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.dropout import Noise
from torch_reference.ops.mask import Mask


@dataclass(frozen=True)
class StackCache:
    """Layer caches in order."""

    layers: tuple[KVCache, ...]


class Stack(nn.Module):
    """``num_layers`` blocks: layer ``i`` is built from ``pattern[i % len(pattern)]``.

    Every ``remat`` other than ``none`` recomputes whole layers in the backward pass. ``unroll`` means nothing here: torch runs
    its layers one by one in any case.
    """

    def __init__(self, c: config.Stack, d_model: int, make: Maker):
        super().__init__()
        blocks = (c.pattern[layer % len(c.pattern)] for layer in range(c.num_layers))
        self.layers = nn.ModuleList(Block(block, d_model, make) for block in blocks)
        self.config = c

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Mask,
        *,
        noise: Noise | None = None,
        cache: tuple[StackCache, Int[Tensor, ""]] | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Tensor, "B T D"], StackCache | None]:
        """Run every layer in order. ``cache`` is the layers' memory and the slot where the new tokens go."""
        rates = self.config.drop_path_rates() if self.config.drop_path else (None,) * self.config.num_layers
        noises = (None,) * self.config.num_layers if noise is None else noise.split(self.config.num_layers)

        def run(index: int, x: Tensor) -> tuple[Tensor, KVCache | None, dict[str, Tensor] | None]:
            # Its own dict: a recomputed layer must not report twice.
            taps = None if tap.values is None else {}
            own_cache = None if cache is None else (cache[0].layers[index], cache[1])
            shares = {"drop_path": rates[index], "noise": noises[index], "cache": own_cache}
            x, new = self.layers[index](x, mask, **shares, tap=Tap(taps))
            return x, new, taps

        memory: list[Any] = []
        for index in range(self.config.num_layers):
            if self.config.remat != "none" and is_grad_enabled():
                x, new, taps = checkpoint(run, index, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x, new, taps = run(index, x)
            memory.append(new)
            for name, value in (taps or {}).items():
                tap.child(f"layers.{index}")(name, value)
        return x, None if cache is None else StackCache(tuple(memory))

    def empty_cache(self, batch: int, length: int) -> StackCache:
        """Room for ``length`` tokens in each of ``batch`` rows, in every layer."""
        return StackCache(tuple(cast(Block, layer).attn.empty_cache(batch, length) for layer in self.layers))
