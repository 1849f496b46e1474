"""One training step, as a pure function of the state and a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array

from jax_transformer import config
from jax_transformer.nn.params import Params, with_params
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.loss import cross_entropy
from jax_transformer.ops.precision import at_least_float32
from jax_transformer.train.objective import TASK, Batch
from jax_transformer.train.schedule import Schedule

State = dict[str, Any]
"""``params`` (flat dict), ``opt_state`` (optax), ``step`` (int32: steps taken)."""


class StepSettings(NamedTuple):
    """What a step needs besides the model and the optimizer."""

    seed: int
    accumulation: int
    dropout_scale: Schedule
    segmented: bool
    """Whether rows hold several documents or padding; a plain stream needs no segment mask."""
    objective: config.Objective = config.NextToken()


def make_train_step(
    skeleton: nnx.Module, optimizer: optax.GradientTransformation, settings: StepSettings
) -> Callable[[State, Batch], tuple[State, dict[str, Array]]]:
    """``(state, batch) -> (state, metrics)`` for the abstract model ``skeleton``.

    The loss is the mean over all that the batch has to predict, however it falls into micro-batches. Where the loss or the
    gradient norm is not finite, parameters and optimizer state come back unchanged and ``metrics["finite"]`` is false.
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


def make_eval_step(
    skeleton: nnx.Module, *, segmented: bool, objective: config.Objective
) -> Callable[[Params, Batch], dict[str, Array]]:
    """``(params, batch) -> sums``, without dropout: ``loss`` in nats, ``tokens`` that it is the sum over, and of a
    classification those that were ``correct``.
    """
    task = TASK[type(objective)]

    def step(params: Params, batch: Batch) -> dict[str, Array]:
        targets, weights = task.answers(batch)
        logits = task.logits(with_params(skeleton, params), batch, segmented, None)
        sums = {"loss": cross_entropy(logits, targets, weights), "tokens": jnp.sum(weights)}
        if isinstance(objective, config.Classification):
            sums["correct"] = jnp.sum(weights * (jnp.argmax(logits, axis=-1) == targets))
        return sums

    return step


@jax.jit  # one program: hundreds of small ones at once have starved the threads of many fake devices on few cores
def all_finite(params: Params) -> Array:
    """True if every parameter is a finite number."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in params.values()]))


def _accumulate(
    skeleton: nnx.Module, params: Params, batch: Batch, noise: Noise, settings: StepSettings
) -> tuple[Array, Array, Params]:
    """Mean loss over the batch's tokens, their number, and the gradients, summed over micro-batches."""
    task = TASK[type(settings.objective)]
    tokens = jnp.maximum(jnp.sum(task.answers(batch)[1]), 1.0)

    def loss(params: Params, micro: Batch, noise: Noise) -> Array:
        logits = task.logits(with_params(skeleton, params), micro, settings.segmented, noise)
        return cross_entropy(logits, *task.answers(micro)) / tokens

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
