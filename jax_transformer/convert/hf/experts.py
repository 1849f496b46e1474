"""Mixtures of experts as Hugging Face spells them: which layers are mixtures, how they route, and the rows of their tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jax_transformer.convert.byte_ops import Fuse, Op, Stack
from jax_transformer.convert.hf.expert_parts import Groups, SharedExperts
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import ACTIVATION, Choice, Field, Fixed, Keys, Missing, Part, as_first
from jax_transformer.convert.hf.skeleton import LAYER, OURS, feed_forward
from jax_transformer.convert.rows import SAME, Row

TRAINING = "output_router_logits router_aux_loss_coef router_jitter_noise aux_loss_alpha seq_aux ep_size"
"""Keys of the loss and of the layout of a training run."""

W123 = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
"""Mixtral's names of the projections of an expert."""
PROJECTIONS = {name: name for name in ("gate_proj", "up_proj", "down_proj")}


def dense(width: int) -> tuple[Part, ...]:
    """The layers that are no mixtures, of ``width`` by default."""
    return (Field("layer.ffn.hidden_dim", "intermediate_size", width), *feed_forward("glu", "silu"))


def expert_rows(theirs: str, names: Mapping[str, str], arrays: str = "mlp") -> tuple[Row, ...]:
    """A matrix of their own for each expert of the module ``theirs``, of which we have one array.

    transformers has two arrays for all of them, in its module ``arrays``, and saves them so on demand.
    """
    own = (
        Row(f"{LAYER}{theirs}.experts.{{expert}}.{their}.weight", (f"{OURS}ffn.experts.{our}.weight",), Stack())
        for their, our in names.items()
    )
    return (*own, *array_rows(arrays))


def array_rows(theirs: str) -> tuple[Row, ...]:
    """The two arrays for all experts of the module ``theirs``, as transformers has them in memory."""
    return (
        in_memory(f"{theirs}.experts.gate_up_proj", ("experts.gate_proj.weight", "experts.up_proj.weight"), Fuse(axis=1)),
        in_memory(f"{theirs}.experts.down_proj", ("experts.down_proj.weight",)),
    )


def in_memory(theirs: str, ours: tuple[str, ...], op: Op = SAME) -> Row:
    """Tensors of a mixture as transformers has them in memory, and in files with ``save_original_format=False``."""
    return Row(f"{LAYER}{theirs}", tuple(f"{OURS}ffn.{name}" for name in ours), op, alternative=True)


def shared_rows(theirs: str) -> dict[str, str]:
    """Names of the network that every token goes through."""
    return {f"{theirs}.{name}": f"ffn.shared.{name}" for name in PROJECTIONS}


def experts(
    routing: str,
    count: str | tuple[str, ...],
    top_k: str | tuple[str, ...] = "num_experts_per_tok",
    width: str = "moe_intermediate_size",
    defaults: tuple[Any, Any, Any] = (Missing, Missing, Missing),
    shared: bool = False,
) -> tuple[Part, ...]:
    """Gated experts: how many there are, how many a token has and how wide they are; ``defaults`` of these three."""
    networks = ("expert", "shared") if shared else ("expert",)
    return (
        Fixed({"layer.ffn.kind": "moe", "layer.ffn.routing.kind": routing}),
        Fixed({f"layer.ffn.{network}.kind": "glu" for network in networks}),
        Field(tuple(f"layer.ffn.{network}.activation" for network in networks), "hidden_act", "silu", ACTIVATION),
        Field("layer.ffn.num_experts", count, defaults[0]),
        Field("layer.ffn.routing.top_k", top_k, defaults[1]),
        *((Field("layer.ffn.expert.hidden_dim", width, defaults[2]),) if width else ()),
    )


def renormalize(default: bool) -> Field:
    """Whether the weights of a token's experts sum to 1."""
    return Field("layer.ffn.routing.renormalize", "norm_topk_prob", default)


def routed_scale(default: float) -> Field:
    """The factor on the weights of the experts."""
    return Field("layer.ffn.routing.scale", "routed_scaling_factor", default)


def said(key: str, value: Any) -> Choice:
    """A key that has one value in every model of the family; it is written, because some loaders look for it."""
    return Choice(key, value, {value: {}})


def grouped_mixture(
    count: str | tuple[str, ...],
    defaults: tuple[Any, Any, int],
    shared: Any,
    groups: tuple[int, int],
    renormalized: bool,
    scale: float,
) -> tuple[Part, ...]:
    """DeepSeek-V3's: scored by sigmoids, in groups, with a bias that only chooses; ``shared`` networks for every token by
    default."""
    return (
        *experts("sigmoid_top_k", count, defaults=defaults, shared=True),
        Fixed({"layer.ffn.routing.choice_bias": True}),
        SharedExperts("n_shared_experts", shared, defaults[2]),
        Groups(groups),
        renormalize(renormalized),
        routed_scale(scale),
    )


def gated_mixture(defaults: tuple[int, int, int], shared_width: int, renormalized: bool) -> tuple[Part, ...]:
    """Qwen's with one more network for every token, behind a gate."""
    return (
        *experts("softmax_top_k", "num_experts", defaults=defaults, shared=True),
        Field("layer.ffn.shared.hidden_dim", "shared_expert_intermediate_size", shared_width),
        Fixed({"layer.ffn.shared_gate": True}),
        renormalize(renormalized),
    )


class Sparse(Protocol):
    """Which layers are mixtures."""

    def read(self, hf: Keys, count: int) -> list[bool]:
        """A flag for each layer."""
        ...

    def write(self, flags: list[bool]) -> dict[str, Any]:
        """Keys that say so; those of the nearest that can be said."""
        ...


@dataclass(frozen=True)
class AfterFirst:
    """``first_k_dense_replace`` dense layers come first."""

    default: int

    def read(self, hf: Keys, count: int) -> list[bool]:
        """False for the first ones."""
        dense = hf.get("first_k_dense_replace", self.default)
        return [layer >= dense for layer in range(count)]

    def write(self, flags: list[bool]) -> dict[str, Any]:
        """How many there are."""
        return {"first_k_dense_replace": (*flags, True).index(True)}


def step_of(flags: list[bool]) -> int | None:
    """The step at which every such layer is a mixture, counted from 1, and no other; None where there is none."""
    steps = range(1, len(flags) + 1)
    return next((step for step in steps if flags == [(layer + 1) % step == 0 for layer in range(len(flags))]), None)


class EveryStep:
    """Every ``decoder_sparse_step``-th layer, except for ``mlp_only_layers`` (Qwen)."""

    def read(self, hf: Keys, count: int) -> list[bool]:
        """Counted from 1."""
        step, dense = hf.get("decoder_sparse_step", 1), hf.get("mlp_only_layers", [])
        return [layer not in dense and (layer + 1) % step == 0 for layer in range(count)]

    def write(self, flags: list[bool]) -> dict[str, Any]:
        """The step alone where it suffices, else a list."""
        step = step_of(flags)
        dense = [layer for layer, sparse in enumerate(flags) if not sparse]
        return {"decoder_sparse_step": step or 1, "mlp_only_layers": [] if step else dense}


class Interval:
    """Every ``moe_layer_interval``-th layer from a first to a last one, -1 for the end (ERNIE 4.5)."""

    def read(self, hf: Keys, count: int) -> list[bool]:
        """Counted from 1, within the bounds."""
        step = hf.get("moe_layer_interval", 1)
        first, last = hf.get("moe_layer_start_index", 1), hf.get("moe_layer_end_index", -1)
        last = count - 1 if last == -1 else last
        return [(layer + 1) % step == 0 and first <= layer <= last for layer in range(count)]

    def write(self, flags: list[bool]) -> dict[str, Any]:
        """From the first to the last one, at the distance of the first two."""
        layers = [layer for layer, sparse in enumerate(flags) if sparse] or [len(flags)]
        keys = {"moe_layer_start_index": layers[0], "moe_layer_end_index": layers[-1]}
        return keys | {"moe_layer_interval": layers[1] - layers[0] if len(layers) > 1 else 1}


@dataclass(frozen=True)
class Mixtures:
    """Networks of which those of some layers are mixtures: parts for these, and for the dense ones, by ``layer.ffn.``."""

    sparse: Sparse
    mixture: tuple[Part, ...]
    dense: tuple[Part, ...]

    def read(self, hf: Keys) -> Flat:
        """The network of each layer."""
        values = [self._values(hf, parts) for parts in (self.dense, self.mixture)]
        flags = self.sparse.read(hf, hf.layers("num_hidden_layers"))
        named = ((layer, path, value) for layer, flag in enumerate(flags) for path, value in values[flag].items())
        return {path.replace("layer.", f"layers.{layer}.", 1): value for layer, path, value in named}

    def write(self, flat: Flat) -> dict[str, Any]:
        """Which layers are mixtures, and what the first one and the first dense one say."""
        flags = [flat.get(f"layers.{layer}.ffn.kind") == "moe" for layer in range(flat["stack.num_layers"])]
        keys = self.sparse.write(flags)
        for flag, parts in ((False, self.dense), (True, self.mixture)):
            if flag in flags:
                seen = as_first(flat, flags.index(flag))
                for part in parts:
                    keys |= part.write(seen)
        return keys

    def _values(self, hf: Keys, parts: tuple[Part, ...]) -> Flat:
        values: Flat = {}
        for part in parts:
            values |= part.read(hf)
        return values
