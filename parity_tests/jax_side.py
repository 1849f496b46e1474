"""The JAX framework's answers."""

from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
import optax

from jax_transformer.config import EncoderDecoder, Model, Train
from jax_transformer.convert.layout import from_hub, to_hub
from jax_transformer.models import abstract_model, build_model
from jax_transformer.nn.params import Params, get_params, param_specs, with_params
from jax_transformer.nn.stack import StackCache
from jax_transformer.ops.loss import cross_entropy, next_token_weights
from jax_transformer.train.balance import balanced_params
from jax_transformer.train.optimizer import build_optimizer
from jax_transformer.train.schedule import learning_rate
from parity_tests.measured import Batch, Decoded, Forward, Hub, Trained, layer_state, reported_steps, used

UNOPTIMIZED = {"xla_backend_optimization_level": 0}
"""Compiles twice as fast and computes the same function."""

EXPLICIT_CASTS = {"xla_allow_excess_precision": False}
"""Without it XLA may leave out a cast down and up again: more accurate than what is written, but not what is written."""


class JaxSide:
    """One config in JAX. Each function is compiled at most once per shape."""

    def __init__(self, config: Model, options: dict[str, Any] | None = None):
        self.config = config
        self.model = abstract_model(config)
        self.specs = param_specs(self.model)
        self.options = options
        self._optimizers: dict[Train, tuple[Any, Any]] = {}

    def structure(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Hub name -> shape and dtype."""
        empty = {name: np.broadcast_to(np.zeros((), spec.dtype), spec.shape) for name, spec in self.specs.items()}
        return {name: (value.shape, str(value.dtype)) for name, value in to_hub(empty, self.specs)}

    def export(self, weights: Hub) -> Hub:
        """The weights after a way through the JAX parameters."""
        return self._to_hub(self._params(weights))

    def forward(self, weights: Hub, batch: Batch) -> Forward:
        """Taps, the use of experts, token-mean loss with that of their balance, and its gradient."""
        (_, (loss, taps, experts)), gradients = self._value_and_grad(self._params(weights), batch.arrays())
        taps = {name: np.asarray(tap) for name, tap in taps.items()} | used(experts, np.asarray)
        return Forward(taps, float(loss), self._to_hub(gradients))

    def plain_logits(self, weights: Hub, batch: Batch) -> np.ndarray:
        """Logits of inputs that are given no segments."""
        return np.asarray(self._plain(self._params(weights), batch.plain()))

    def decode(self, weights: Hub, batch: Batch, at_once: int) -> Decoded:
        """Logits through a cache, ``at_once`` tokens at a time, and what the cache holds in the end."""
        params, tokens = self._params(weights), batch.inputs["tokens"]
        rest = {name: batch.inputs[name] for name in ("segments", "token_types") if name in batch.inputs}
        rows, length = tokens.shape
        if isinstance(self.config, EncoderDecoder):
            cache = self._start(params, batch.inputs["source"], batch.inputs["source_segments"])
        else:
            cache = self.model.empty_cache(rows, length + 2)
        logits = []
        for start in range(0, length, at_once):
            part = slice(start, start + at_once)
            out, cache = self._decode(params, tokens[:, part], cache, {name: v[:, part] for name, v in rest.items()})
            logits.append(np.asarray(out))
        kept = {"": cache.layers} | ({} if cache.source is None else {"source.": cache.source.layers})
        state = {name: np.asarray(value) for prefix, own in kept.items() for name, value in layer_state(_in_order(own), prefix)}
        return Decoded(np.concatenate(logits, axis=1), state)

    def train(self, weights: Hub, batches: tuple[Batch, ...], train: Train) -> dict[int, Trained]:
        """AdamW steps, one per batch, by the package's own optimizer; by step, the first and the last."""
        init, update = self._optimizer(train)
        params = self._params(weights)
        state = init(params)
        reported: dict[int, Trained] = {}
        trained = None
        for step, batch in enumerate(batches, 1):
            (_, (*_, experts)), gradients = self._value_and_grad(params, batch.arrays())
            params, state = update(gradients, state, params)
            params = balanced_params(params, experts, self.specs, train.choice_bias_rate)
            adam = _adam_state(state)
            trained = Trained.after(trained, *(self._to_hub(part) for part in (params, adam.mu, adam.nu)))
            if step in reported_steps(len(batches)):
                reported[step] = trained
        return reported

    def initial(self, seed: int) -> Hub:
        """Freshly drawn weights."""
        return self._to_hub(jax.jit(lambda: get_params(build_model(self.config, seed)), compiler_options=UNOPTIMIZED)())

    @cached_property
    def _value_and_grad(self) -> Any:
        def loss(params: Params, batch: dict[str, Any]) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array], Any]]:
            logits, aux = with_params(self.model, params)(**batch["inputs"], return_taps=True)
            counted = next_token_weights(batch["segments"]) if "segments" in batch else batch["weights"]
            logits = logits.reshape(*batch["targets"].shape, -1)
            loss = cross_entropy(logits, batch["targets"], counted) / counted.sum() + aux.get("balance_loss", 0.0)
            return loss, (loss, aux["taps"], aux.get("experts", {}))

        return jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=self.options)

    @cached_property
    def _plain(self) -> Any:
        return jax.jit(lambda params, inputs: with_params(self.model, params)(**inputs)[0], compiler_options=self.options)

    @cached_property
    def _start(self) -> Any:
        def start(params: Params, source: jax.Array, segments: jax.Array) -> Any:
            return with_params(self.model, params).start(source, source_segments=segments)

        return jax.jit(start, compiler_options=self.options)

    @cached_property
    def _decode(self) -> Any:
        def decode(params: Params, tokens: jax.Array, cache: Any, rest: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
            return with_params(self.model, params).decode(tokens, cache, **rest)

        return jax.jit(decode, compiler_options=self.options)

    def _optimizer(self, train: Train) -> tuple[Any, Any]:
        """Compiled ``init(params)`` and ``update(gradients, state, params)``; kept: every model trains more than once."""
        if train not in self._optimizers:
            optimizer = build_optimizer(train.optimizer, self.specs, learning_rate(train), train.clip_norm)
            compiled = partial(jax.jit, compiler_options=self.options)
            self._optimizers[train] = compiled(optimizer.init), compiled(partial(_update, optimizer))
        return self._optimizers[train]

    def _params(self, weights: Hub) -> Params:
        return {name: jax.numpy.asarray(value) for name, value in from_hub(weights, self.specs).items()}

    def _to_hub(self, params: Params) -> Hub:
        return dict(to_hub({name: np.asarray(value) for name, value in params.items()}, self.specs))


def _in_order(cache: StackCache) -> list[Any]:
    """What each layer holds, from the first to the last: the stacked slots are taken apart."""
    repeats = [len(leaf) for leaf in jax.tree.leaves(cache.slots)][:1]
    slots = [jax.tree.map(lambda leaf, r=r: leaf[r], slot) for r in range(sum(repeats)) for slot in cache.slots]
    return [*cache.first, *slots, *cache.tail]


def _update(optimizer: optax.GradientTransformation, gradients: Params, state: Any, params: Params) -> tuple[Params, Any]:
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def _adam_state(state: Any) -> optax.ScaleByAdamState:
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, optax.ScaleByAdamState))
    return next(node for node in nodes if isinstance(node, optax.ScaleByAdamState))
