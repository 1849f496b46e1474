"""Depth: a repeating pattern of blocks, stacked over its repeats and run by one scan."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer import config
from jax_transformer.nn.attention.cache import KVCache
from jax_transformer.nn.block import Block
from jax_transformer.nn.params import Maker
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.mask import Mask

REMAT_POLICY = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_no_batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StackCache:
    """Layer caches in the shape of the stack: one per slot with a leading axis of repeats, then the remainder."""

    slots: tuple[KVCache, ...]
    tail: tuple[KVCache, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Layer:
    """One layer, or the stacked layers of one slot: the block and all that varies with depth. No block knows its index."""

    block: Block
    drop_path: Float[Array, "*R"] | None
    noise: Noise | None
    cache: KVCache | None


_Result = tuple[Any, dict[str, jax.Array] | None]
"""What a layer leaves: its new cache (None without one), and its tapped values."""


class Stack(nnx.Module):
    """``num_layers`` blocks: P slots of ``num_layers // P`` stacked repeats, then a tail of the remaining blocks.

    Slot ``s`` at repeat ``r`` is layer ``r * P + s``. Compile time does not depend on the number of repeats.
    """

    def __init__(self, c: config.Stack, d_model: int, make: Maker):
        period = len(c.pattern)
        self.repeats, rest = divmod(c.num_layers, period)
        keys = jax.random.split(make.rngs.params(), c.num_layers)
        slot_keys = keys[: self.repeats * period].reshape(self.repeats, period)

        def build(block: config.Block) -> Callable[[jax.Array], Block]:
            return lambda key: Block(block, d_model, make.with_key(key))

        slots = [jax.vmap(build(block))(slot_keys[:, s]) for s, block in enumerate(c.pattern) if self.repeats]
        self.slots = nnx.List(slots)
        self.tail = nnx.List([build(c.pattern[i])(keys[self.repeats * period + i]) for i in range(rest)])
        self.config = c

    def __call__(
        self,
        x: Float[Array, "B T D"],
        mask: Mask,
        *,
        noise: Noise | None = None,
        cache: tuple[StackCache, Int[Array, ""]] | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Array, "B T D"], StackCache | None]:
        """Run every layer in order. ``cache`` is the layers' memory and the slot where the new tokens go."""
        slots, tail = self._layers(noise, None if cache is None else cache[0])

        def run(x: jax.Array, layers: tuple[_Layer, ...]) -> tuple[jax.Array, tuple[_Result, ...]]:
            results = []
            for layer in layers:
                taps = None if tap.values is None else {}
                layer_cache = None if cache is None or layer.cache is None else (layer.cache, cache[1])
                x, new = layer.block(x, mask, drop_path=layer.drop_path, noise=layer.noise, cache=layer_cache, tap=Tap(taps))
                results.append((new, taps))
            return x, tuple(results)

        if self.config.remat != "none":
            # Inside a scan the loop already keeps the recomputation apart; between unrolled layers only a barrier does.
            run = jax.checkpoint(run, policy=REMAT_POLICY[self.config.remat], prevent_cse=self.config.unroll)
        x, slot_results = self._repeat(run, x, slots)
        tail_results = []
        for layer in tail:
            x, results = run(x, (layer,))
            tail_results.extend(results)
        self._report(slot_results, tail_results, tap)
        if cache is None:
            return x, None
        return x, StackCache(tuple(new for new, _ in slot_results), tuple(new for new, _ in tail_results))

    def empty_cache(self, batch: int, length: int) -> StackCache:
        """Room for ``length`` tokens in each of ``batch`` rows, in every layer."""

        def stacked(block: Block) -> KVCache:
            one = block.attn.empty_cache(batch, length)
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[None], (self.repeats, *leaf.shape)), one)

        slots = tuple(stacked(block) for block in self.slots)
        return StackCache(slots, tuple(block.attn.empty_cache(batch, length) for block in self.tail))

    def _layers(self, noise: Noise | None, memory: StackCache | None) -> tuple[tuple[_Layer, ...], tuple[_Layer, ...]]:
        """Every layer with its own share of what varies with depth."""
        c, period = self.config, len(self.config.pattern)
        rates = jnp.asarray(c.drop_path_rates(), jnp.float32) if c.drop_path and noise is not None else None
        noises = None if noise is None else noise.split(c.num_layers)

        def layer(block: Block, index: int | slice, cache: KVCache | None) -> _Layer:
            rate, own_noise = jax.tree.map(lambda leaf: leaf[index], (rates, noises))
            return _Layer(block, rate, own_noise, cache)

        covered = self.repeats * period
        slot_caches = (None,) * period if memory is None else memory.slots
        tail_caches = (None,) * period if memory is None else memory.tail
        slots = [layer(block, slice(s, covered, period), slot_caches[s]) for s, block in enumerate(self.slots)]
        tail = [layer(block, covered + i, tail_caches[i]) for i, block in enumerate(self.tail)]
        return tuple(slots), tuple(tail)

    def _repeat(self, run: Callable, x: jax.Array, slots: tuple[_Layer, ...]) -> tuple[jax.Array, tuple[_Result, ...]]:
        """Run the slots once per repeat, by one scan or, if asked for, one after the other."""
        if not self.config.unroll or not slots:
            return jax.lax.scan(run, x, slots) if slots else (x, ())
        leaves, structure = jax.tree.flatten(slots)
        # jnp.unstack and not indexing: its transpose is one concatenation, not a sum of padded arrays.
        unstacked = [jnp.unstack(leaf) for leaf in leaves]
        results = []
        for repeat in range(self.repeats):
            x, result = run(x, structure.unflatten([leaf[repeat] for leaf in unstacked]))
            results.append(result)
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    def _report(self, slot_results: tuple[_Result, ...], tail_results: list[_Result], tap: Tap) -> None:
        """Give every layer's values to the tap, under the layer's number."""
        period = len(self.config.pattern)
        for layer in range(self.config.num_layers if tap.values is not None else 0):
            repeat, slot = divmod(layer, period)
            stacked = repeat < self.repeats
            _, taps = slot_results[slot] if stacked else tail_results[slot]
            for name, value in (taps or {}).items():
                tap.child(f"layers.{layer}")(name, value[repeat] if stacked else value)
