"""What a step does with the use of experts: it reports it, and moves the biases by which they are chosen."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_transformer.convert.layout import ParamSpec, entries_by_param
from jax_transformer.nn.params import Params
from jax_transformer.ops.balance import Usage, balanced_bias, expert_load

_SUFFIX = ".ffn.choice_bias"


def balanced_params(params: Params, experts: Mapping[str, Usage], specs: Mapping[str, ParamSpec], rate: float) -> Params:
    """``params`` with every choice bias moved by ``rate`` towards an even load; ``experts`` are by name of the layer.

    The counts are those of the whole batch. A stacked bias has those of each of its layers.
    """
    changed = {}
    for path, entries in entries_by_param(specs).items():
        if path.endswith(_SUFFIX):
            counts = [experts[entry.hub_name.removesuffix(_SUFFIX)].counts for entry in entries]
            stacked = entries[0].index is not None
            move = jax.vmap(balanced_bias, (0, 0, None)) if stacked else balanced_bias
            changed[path] = move(params[path], jnp.stack(counts) if stacked else counts[0], rate)
    return {**params, **changed}


def expert_metrics(experts: Mapping[str, Usage]) -> dict[str, Float[Array, ""]]:
    """The raw loss terms of every layer, and its busiest and its idlest expert; a load of 1 is an even share."""
    metrics = {}
    for layer, usage in experts.items():
        load = expert_load(usage.counts) * usage.counts.size
        metrics |= {f"load_balance/{layer}": usage.load_balance, f"router_z/{layer}": usage.router_z}
        metrics |= {f"expert_load_max/{layer}": jnp.max(load), f"expert_load_min/{layer}": jnp.min(load)}
    return metrics
