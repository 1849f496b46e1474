"""Depth: a repeating pattern of blocks, stacked over its repeats and run by one scan."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer import config
from jax_transformer.nn.attention.cache import KVCache
from jax_transformer.nn.block import Block
from jax_transformer.nn.context import Context
from jax_transformer.nn.params import Maker
from jax_transformer.nn.position import T5Bias
from jax_transformer.nn.tap import SILENT, Tap
from jax_transformer.ops.balance import Usage
from jax_transformer.ops.dropout import Noise

REMAT_POLICY = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_no_batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StackCache:
    """Something per layer in the shape of the stack: first layers, slots with a leading axis of repeats, the remainder."""

    first: tuple[Any, ...]
    slots: tuple[Any, ...]
    tail: tuple[Any, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Layer:
    """One layer, or the stacked layers of one slot: the block and all that varies with depth. No block knows its index."""

    block: Block
    drop_path: Float[Array, "*R"] | None
    noise: Noise | None
    cache: Any
    source: KVCache | None


_Result = tuple[Any, dict[str, jax.Array] | None, Usage | None]
"""What a layer leaves: its new cache (None without one), its tapped values, and the use of its experts (None without any)."""


class Stack(nnx.Module):
    """``num_layers`` blocks: F first ones, then P slots of R stacked repeats, then a tail of the remaining blocks.

    Slot ``s`` at repeat ``r`` is layer ``F + r * P + s``. Compile time does not depend on the number of repeats.
    """

    def __init__(self, c: config.Stack, d_model: int, make: Maker, source_dim: int | None = None):
        start, period = len(c.first), len(c.period)
        self.repeats, rest = divmod(c.num_layers - start, period)
        keys = jax.random.split(make.rngs.params(), c.num_layers)
        covered = start + self.repeats * period
        slot_keys = keys[start:covered].reshape(self.repeats, period)

        def build(block: config.Block) -> Callable[[jax.Array], Block]:
            return lambda key: Block(block, d_model, make.with_key(key), source_dim)

        self.first = nnx.List([build(block)(keys[i]) for i, block in enumerate(c.first)])
        self.slots = nnx.List([jax.vmap(build(block))(slot_keys[:, s]) for s, block in enumerate(c.period) if self.repeats])
        self.tail = nnx.List([build(c.period[i])(keys[covered + i]) for i in range(rest)])
        self.shared_bias = None if c.shared_bias is None else T5Bias(c.shared_bias, (c.shared_bias_heads, 0), make)
        self.config = c

    def __call__(
        self,
        x: Float[Array, "B T D"],
        context: Context,
        *,
        noise: Noise | None = None,
        cache: tuple[StackCache, Int[Array, ""]] | None = None,
        sources: StackCache | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Array, "B T D"], StackCache | None, dict[int, Usage]]:
        """Run every layer in order. ``cache`` is the layers' memory and the slot where the new tokens go; ``sources`` are the
        keys and values of the cross-attentions, where they are known already. Also returns the use of the experts of every
        layer that has any."""
        if self.shared_bias is not None:
            context = replace(context, shared_bias=self.shared_bias.bias(context))
        layers = self._layers(noise, None if cache is None else cache[0], sources)

        def run(x: jax.Array, layers: tuple[_Layer, ...]) -> tuple[jax.Array, tuple[_Result, ...]]:
            results = []
            for layer in layers:
                taps = None if tap.values is None else {}
                memory = None if cache is None or layer.cache is None else (layer.cache, cache[1])
                shares = {"drop_path": layer.drop_path, "noise": layer.noise, "cache": memory, "source": layer.source}
                x, new, usage = layer.block(x, context, **shares, tap=Tap(taps))
                results.append((new, taps, usage))
            return x, tuple(results)

        if self.config.remat != "none":
            # Inside a scan the loop already keeps the recomputation apart; between unrolled layers only a barrier does.
            run = jax.checkpoint(run, policy=REMAT_POLICY[self.config.remat], prevent_cse=self.config.unroll)
        x, first = _one_by_one(run, x, layers.first)
        x, slots = self._repeat(run, x, layers.slots)
        x, tail = _one_by_one(run, x, layers.tail)
        usages = self._report(StackCache(first, slots, tail), tap)
        if cache is None:
            return x, None, usages
        return x, StackCache(*(tuple(new for new, _, _ in part) for part in (first, slots, tail))), usages

    def empty_cache(self, batch: int, length: int) -> StackCache:
        """Room for ``length`` tokens in each of ``batch`` rows, in every layer."""

        def stacked(block: Block) -> Any:
            one = block.attn.empty_cache(batch, length)
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[None], (self.repeats, *leaf.shape)), one)

        def plain(block: Block) -> Any:
            return block.attn.empty_cache(batch, length)

        return StackCache(*(tuple(map(f, part)) for f, part in zip((plain, stacked, plain), self._parts(), strict=True)))

    def read_source(self, source: Float[Array, "B S D"]) -> StackCache:
        """Keys and values of every layer's cross-attention over the encoder's output; None for a layer without one."""

        def read(block: Block) -> KVCache | None:
            return None if block.cross_attn is None else block.cross_attn.keys_values(source)

        return StackCache(*(tuple(map(f, part)) for f, part in zip((read, jax.vmap(read), read), self._parts(), strict=True)))

    def _parts(self) -> tuple[Any, Any, Any]:
        return self.first, self.slots, self.tail

    def _layers(self, noise: Noise | None, memory: StackCache | None, sources: StackCache | None) -> StackCache:
        """Every layer with its own share of what varies with depth."""
        c, start, period = self.config, len(self.config.first), len(self.config.period)
        rates = jnp.asarray(c.drop_path_rates(), jnp.float32) if c.drop_path and noise is not None else None
        noises = None if noise is None else noise.split(c.num_layers)
        covered = start + self.repeats * period

        def layers(name: str, indices: list[Any]) -> tuple[_Layer, ...]:
            blocks = getattr(self, name)
            caches, kept = ((None,) * len(blocks) if given is None else getattr(given, name) for given in (memory, sources))
            result = []
            for block, index, cache, source in zip(blocks, indices, caches, kept, strict=True):
                rate, own_noise = jax.tree.map(lambda leaf, i=index: leaf[i], (rates, noises))
                result.append(_Layer(block, rate, own_noise, cache, source))
            return tuple(result)

        return StackCache(
            layers("first", list(range(start))),
            layers("slots", [slice(start + s, covered, period) for s in range(len(self.slots))]),
            layers("tail", list(range(covered, c.num_layers))),
        )

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

    def _report(self, results: StackCache, tap: Tap) -> dict[int, Usage]:
        """Give every layer's values to the tap, under the layer's number; returns the use of experts by that number."""
        usages = {}
        period, start = len(self.config.period), len(self.config.first)
        for layer in range(self.config.num_layers):
            repeat, slot = divmod(layer - start, period)
            stacked = 0 <= repeat < self.repeats
            part = results.slots if stacked else results.first if layer < start else results.tail
            _, taps, usage = part[layer if layer < start else slot]
            taps, usage = jax.tree.map(lambda leaf, i=repeat: leaf[i], (taps, usage)) if stacked else (taps, usage)
            for name, value in (taps or {}).items():
                tap.child(f"layers.{layer}")(name, value)
            if usage is not None:
                usages[layer] = usage
        return usages


def _one_by_one(run: Callable, x: jax.Array, layers: tuple[_Layer, ...]) -> tuple[jax.Array, tuple[_Result, ...]]:
    results = []
    for layer in layers:
        x, result = run(x, (layer,))
        results.extend(result)
    return x, tuple(results)
