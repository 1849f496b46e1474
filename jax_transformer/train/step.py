"""One training step, as a pure function of the state and a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array

from jax_transformer import config
from jax_transformer.nn.params import Params, param_specs, with_params
from jax_transformer.ops.balance import Usage
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.loss import cross_entropy
from jax_transformer.ops.precision import at_least_float32
from jax_transformer.train.balance import balanced_params, expert_metrics
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
    choice_bias_rate: float = 1e-3


def make_train_step(
    skeleton: nnx.Module, optimizer: optax.GradientTransformation, settings: StepSettings
) -> Callable[[State, Batch], tuple[State, dict[str, Array]]]:
    """``(state, batch) -> (state, metrics)`` for the abstract model ``skeleton``.

    The loss is the mean over all that the batch has to predict, however it falls into micro-batches. Where the loss or the
    gradient norm is not finite, parameters and optimizer state come back unchanged and ``metrics["finite"]`` is false.
    A model with experts has its balance loss added for the gradient, not in ``metrics["loss"]``, and its choice biases moved.
    """
    specs = param_specs(skeleton)

    def step(state: State, batch: Batch) -> tuple[State, dict[str, Array]]:
        noise = Noise(jax.random.fold_in(jax.random.key(settings.seed), state["step"]), settings.dropout_scale(state["step"]))
        sums, tokens, grads = _accumulate(skeleton, state["params"], batch, noise, settings)
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(sums.loss) & jnp.isfinite(sums.balance_loss) & jnp.isfinite(grad_norm)

        def update(params: optax.Params, opt_state: optax.OptState) -> tuple[optax.Params, optax.OptState]:
            updates, opt_state = optimizer.update(grads, opt_state, params)
            updated: Any = optax.apply_updates(params, updates)
            return balanced_params(updated, sums.experts, specs, settings.choice_bias_rate), opt_state

        # A branch, not a select over every array: it costs a pass less over parameters and moments.
        params, opt_state = jax.lax.cond(finite, update, lambda *old: old, state["params"], state["opt_state"])
        metrics = {"loss": sums.loss, "grad_norm": grad_norm, "tokens": tokens, "finite": finite}
        if sums.experts:
            metrics |= {"balance_loss": sums.balance_loss, **expert_metrics(sums.experts)}
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
        logits, _ = task.outputs(with_params(skeleton, params), batch, segmented, None)
        sums = {"loss": cross_entropy(logits, targets, weights), "tokens": jnp.sum(weights)}
        if isinstance(objective, config.Classification):
            sums["correct"] = jnp.sum(weights * (jnp.argmax(logits, axis=-1) == targets))
        return sums

    return step


@jax.jit  # one program: hundreds of small ones at once have starved the threads of many fake devices on few cores
def all_finite(params: Params) -> Array:
    """True if every parameter is a finite number."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in params.values()]))


class _Sums(NamedTuple):
    """What adds up over micro-batches to the values of the whole batch."""

    loss: Array
    """Negative log likelihood."""
    balance_loss: Array
    experts: dict[str, Usage]


def _accumulate(
    skeleton: nnx.Module, params: Params, batch: Batch, noise: Noise, settings: StepSettings
) -> tuple[_Sums, Array, Params]:
    """Mean loss over the batch's tokens, their number, and the gradients, summed over micro-batches."""
    task, parts = TASK[type(settings.objective)], settings.accumulation
    tokens = jnp.maximum(jnp.sum(task.answers(batch)[1]), 1.0)

    def loss(params: Params, micro: Batch, noise: Noise) -> tuple[Array, _Sums]:
        logits, aux = task.outputs(with_params(skeleton, params), micro, settings.segmented, noise)
        nll, balance_loss = cross_entropy(logits, *task.answers(micro)) / tokens, aux.get("balance_loss", jnp.zeros(())) / parts
        used = aux.get("experts", {}).items()
        experts = {name: Usage(use.load_balance / parts, use.router_z / parts, use.counts) for name, use in used}
        return nll + balance_loss, _Sums(nll, balance_loss, experts)

    if parts == 1:
        (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, noise)
        return sums, tokens, grads

    def add(total: tuple[_Sums, Params], part: tuple[Batch, Noise]) -> tuple[tuple[_Sums, Params], None]:
        grads, sums = jax.grad(loss, has_aux=True)(params, *part)
        return jax.tree.map(lambda a, b: a + jnp.asarray(b, a.dtype), total, (sums, grads)), None

    # Row i goes to micro-batch i % accumulation: every device then keeps its own rows.
    micro = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, at_least_float32(p.dtype)), params)
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(loss, params, batch, noise)[1]), zeros
    (sums, grads), _ = jax.lax.scan(add, start, (micro, noise.split(parts)))
    return sums, tokens, jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)
