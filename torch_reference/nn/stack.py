"""Depth: a repeating pattern of blocks, as a flat list of layers."""

from dataclasses import dataclass, replace
from typing import Any, cast

from jaxtyping import Float, Int
from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint

from jax_transformer import config
from torch_reference.nn.block import Block
from torch_reference.nn.context import Context
from torch_reference.nn.params import Maker
from torch_reference.nn.position import T5Bias
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.balance import Usage
from torch_reference.ops.dropout import Noise


@dataclass(frozen=True)
class StackCache:
    """Something per layer, in order."""

    layers: tuple[Any, ...]


class Stack(nn.Module):
    """``num_layers`` blocks: those of ``first``, then ``period`` over and over.

    Every ``remat`` other than ``none`` recomputes whole layers in the backward pass. ``unroll`` means nothing here: torch runs
    its layers one by one in any case.
    """

    def __init__(self, c: config.Stack, d_model: int, make: Maker, source_dim: int | None = None):
        super().__init__()
        self.layers = nn.ModuleList(Block(block, d_model, make, source_dim) for block in c.layers)
        self.shared_bias = None if c.shared_bias is None else T5Bias(c.shared_bias, (c.shared_bias_heads, 0), make)
        self.config = c

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context,
        *,
        noise: Noise | None = None,
        cache: tuple[StackCache, Int[Tensor, ""]] | None = None,
        sources: StackCache | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Tensor, "B T D"], StackCache | None, dict[int, Usage]]:
        """Run every layer in order. ``cache`` is the layers' memory and the slot where the new tokens go; ``sources`` are the
        keys and values of the cross-attentions, where they are known already. Also returns the use of the experts of every
        layer that has any."""
        none = (None,) * self.config.num_layers
        rates = self.config.drop_path_rates() if self.config.drop_path else none
        noises = none if noise is None else noise.split(self.config.num_layers)
        kept = none if sources is None else sources.layers
        if self.shared_bias is not None:
            context = replace(context, shared_bias=self.shared_bias.bias(context))

        def run(index: int, x: Tensor) -> tuple[Tensor, Any, dict[str, Tensor] | None, Usage | None]:
            # Its own dict: a recomputed layer must not report twice.
            taps = None if tap.values is None else {}
            own_cache = None if cache is None else (cache[0].layers[index], cache[1])
            shares = {"drop_path": rates[index], "noise": noises[index], "cache": own_cache, "source": kept[index]}
            x, new, usage = self.layers[index](x, context, **shares, tap=Tap(taps))
            return x, new, taps, usage

        memory, usages = [], {}
        for index in range(self.config.num_layers):
            if self.config.remat != "none" and is_grad_enabled():
                x, new, taps, usage = checkpoint(run, index, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x, new, taps, usage = run(index, x)
            memory.append(new)
            for name, value in (taps or {}).items():
                tap.child(f"layers.{index}")(name, value)
            if usage is not None:
                usages[index] = usage
        return x, None if cache is None else StackCache(tuple(memory)), usages

    def empty_cache(self, batch: int, length: int) -> StackCache:
        """Room for ``length`` tokens in each of ``batch`` rows, in every layer."""
        return StackCache(tuple(cast(Block, layer).attn.empty_cache(batch, length) for layer in self.layers))

    def read_source(self, source: Float[Tensor, "B S D"]) -> StackCache:
        """Keys and values of every layer's cross-attention over the encoder's output; None for a layer without one."""
        attentions = [cast(Block, layer).cross_attn for layer in self.layers]
        return StackCache(tuple(None if own is None else own.keys_values(source) for own in attentions))
