"""The training state: made where it will live, never on one device first."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from jax_transformer import config
from jax_transformer.models import abstract_model, build_model
from jax_transformer.nn.params import get_params, param_specs
from jax_transformer.sharding.rules import state_shardings
from jax_transformer.train.optimizer import build_optimizer
from jax_transformer.train.schedule import learning_rate
from jax_transformer.train.step import State


class Recipe(NamedTuple):
    """A run's model and optimizer without any array, and where each array of its state belongs."""

    skeleton: nnx.Module
    optimizer: optax.GradientTransformation
    state: Any
    """The state with shapes, dtypes and shardings in place of arrays."""
    mesh: Mesh

    @property
    def shardings(self) -> Any:
        """The sharding of every leaf of the state."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.state)


def make_recipe(run: config.Run, mesh: Mesh) -> Recipe:
    """Describe the state of ``run`` on ``mesh``; ConfigError if a parameter cannot be laid out on it."""
    skeleton = abstract_model(run)
    specs = param_specs(skeleton)
    optimizer = build_optimizer(run.train.optimizer, specs, learning_rate(run.train), run.train.clip_norm)
    shapes = jax.eval_shape(lambda: _initial(run, optimizer))
    shardings = state_shardings(shapes, specs, mesh)
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    return Recipe(skeleton, optimizer, abstract, mesh)


def init_state(run: config.Run, recipe: Recipe) -> State:
    """The state before the first step, each device holding only its own part."""
    # Pinned outputs: left to itself, jit would replicate the optimizer state on every device.
    with jax.set_mesh(recipe.mesh):
        return jax.jit(lambda: _initial(run, recipe.optimizer), out_shardings=recipe.shardings)()


def _initial(run: config.Run, optimizer: optax.GradientTransformation) -> State:
    params = get_params(build_model(run, seed=run.train.seed))
    return {"params": params, "opt_state": optimizer.init(params), "step": jnp.zeros((), jnp.int32)}
