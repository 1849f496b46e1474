"""One training step, as a pure function of the state and a batch."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from jax_transformer.nn.params import Params, with_params
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.loss import cross_entropy, next_token_weights
from jax_transformer.ops.precision import at_least_float32
from jax_transformer.train.schedule import Schedule

State = dict[str, Any]
"""``params`` (flat dict), ``opt_state`` (optax), ``step`` (int32: steps taken)."""

Batch = Mapping[str, Int[Array, "B T+1"]] | Mapping[str, Int[np.ndarray, "B T+1"]]
"""``tokens`` and ``segments``; position t predicts position t + 1."""


class StepSettings(NamedTuple):
    """What a step needs besides the model and the optimizer."""

    seed: int
    accumulation: int
    dropout_scale: Schedule
    segmented: bool
    """Whether rows hold several documents or padding; a plain stream needs no segment mask."""


def batch_loss(
    model: nnx.Module, batch: Batch, *, segmented: bool, noise: Noise | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Summed next-token loss in nats and the number of tokens that it sums over."""
    tokens, segments = jnp.asarray(batch["tokens"]), jnp.asarray(batch["segments"])
    weights = next_token_weights(segments)
    logits, _ = model(tokens[:, :-1], segments=segments[:, :-1] if segmented else None, noise=noise)
    return cross_entropy(logits, tokens[:, 1:], weights), jnp.sum(weights)


def make_train_step(
    skeleton: nnx.Module, optimizer: optax.GradientTransformation, settings: StepSettings
) -> Callable[[State, Batch], tuple[State, dict[str, Array]]]:
    """``(state, batch) -> (state, metrics)`` for the abstract model ``skeleton``.

    The loss is the mean over all real tokens of the batch, however they fall into micro-batches. Where the loss or the gradient
    norm is not finite, parameters and optimizer state come back unchanged and ``metrics["finite"]`` is false.
    """

    def step(state: State, batch: Batch) -> tuple[State, dict[str, Array]]:
        noise = Noise(jax.random.fold_in(jax.random.key(settings.seed), state["step"]), settings.dropout_scale(state["step"]))
        loss, tokens, grads = _accumulate(skeleton, state["params"], batch, noise, settings)
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)

        def update(params: optax.Params, opt_state: optax.OptState) -> tuple[optax.Params, optax.OptState]:
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        # A branch, not a select over every array: it costs a pass less over parameters and moments.
        params, opt_state = jax.lax.cond(finite, update, lambda *old: old, state["params"], state["opt_state"])
        metrics = {"loss": loss, "grad_norm": grad_norm, "tokens": tokens, "finite": finite}
        return {"params": params, "opt_state": opt_state, "step": state["step"] + 1}, metrics

    return step


def make_eval_step(skeleton: nnx.Module, *, segmented: bool) -> Callable[[Params, Batch], tuple[Array, Array]]:
    """``(params, batch) -> (summed loss, tokens)``, without dropout."""
    return lambda params, batch: batch_loss(with_params(skeleton, params), batch, segmented=segmented)


def all_finite(params: Params) -> Array:
    """True if every parameter is a finite number."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in params.values()]))


def _accumulate(
    skeleton: nnx.Module, params: Params, batch: Batch, noise: Noise, settings: StepSettings
) -> tuple[Array, Array, Params]:
    """Mean loss over the batch's tokens, their number, and the gradients, summed over micro-batches."""
    tokens = jnp.maximum(jnp.sum(next_token_weights(jnp.asarray(batch["segments"]))), 1.0)

    def loss(params: Params, micro: Batch, noise: Noise) -> Array:
        model = with_params(skeleton, params)
        return batch_loss(model, micro, segmented=settings.segmented, noise=noise)[0] / tokens

    if settings.accumulation == 1:
        value, grads = jax.value_and_grad(loss)(params, batch, noise)
        return value, tokens, grads

    def add(total: tuple[Array, Params], part: tuple[Batch, Noise]) -> tuple[tuple[Array, Params], None]:
        result = jax.value_and_grad(loss)(params, *part)
        return jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, result), None

    # Row i goes to micro-batch i % accumulation: every device then keeps its own rows.
    micro = jax.tree.map(lambda x: x.reshape(-1, settings.accumulation, *x.shape[1:]).swapaxes(0, 1), batch)
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, at_least_float32(p.dtype)), params)
    start = (jnp.zeros((), jax.eval_shape(loss, params, batch, noise).dtype), zeros)
    (value, grads), _ = jax.lax.scan(add, start, (micro, noise.split(settings.accumulation)))
    return value, tokens, jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)
