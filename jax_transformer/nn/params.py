"""Parameters: how one is made, what its metadata says, and the flat view ``{dotted path: array}`` of a whole model."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Key

from jax_transformer.config import Dtype, Init, Model

Params = dict[str, jax.Array]


@dataclass(frozen=True)
class ParamSpec:
    """What is known of a parameter without its values."""

    shape: tuple[int, ...]
    dtype: jnp.dtype
    axes: tuple[str, ...]
    """Logical name of each own dimension; a stacked parameter has one more leading dimension, the repeats."""
    contracted: int
    """How many of its own dimensions are summed over: the leading ones of a kernel, the columns of a filter; else 0."""
    copies: int = 0
    """How many of its own leading dimensions, before those, only number copies: 1 for the weights of experts."""

    @property
    def batch_dims(self) -> int:
        """Leading dimensions that only stack copies of the parameter."""
        return len(self.shape) - len(self.axes)


class Maker:
    """Hands out initialised parameters while a model is being built."""

    def __init__(self, key: Key[Array, ""], dtype: Dtype, std: float, residual_std: float):
        self.rngs = nnx.Rngs(params=key)
        self.dtype = dtype
        self.std = std
        self.residual_std = residual_std

    @staticmethod
    def of_model(c: Model, key: Key[Array, ""]) -> "Maker":
        """The recipe of a model's ``dtype`` and ``init``, for what lies outside its stacks."""
        return Maker(key, c.dtype, c.init.std, c.init.std)

    def of_stack(self, c: Init, num_layers: int) -> "Maker":
        """The same recipe for a stack: each branch's last projection has its std divided by ``sqrt(2 * num_layers)`` if so
        configured. Draws from the same stream."""
        residual_std = c.std / (2 * num_layers) ** 0.5 if c.depth_scaled else c.std
        return Maker(self.rngs.params(), self.dtype, self.std, residual_std)

    def with_key(self, key: Key[Array, ""]) -> "Maker":
        """The same recipe with other randomness."""
        return Maker(key, self.dtype, self.std, self.residual_std)

    def normal(
        self,
        shape: tuple[int, ...],
        axes: tuple[str, ...],
        contracted: int = 0,
        copies: int = 0,
        std: float | None = None,
    ) -> nnx.Param:
        """Normal values with ``std`` (default: the model's ``init.std``)."""
        wide = jnp.promote_types(self.dtype.param, jnp.float32)
        values = jax.random.normal(self.rngs.params(), shape, wide) * (self.std if std is None else std)
        return nnx.Param(values.astype(self.dtype.param), axes=axes, contracted=contracted, copies=copies)

    def uniform(
        self, bounds: tuple[float, float], shape: tuple[int, ...], axes: tuple[str, ...], *, log: bool = False
    ) -> nnx.Param:
        """Uniform values between ``bounds``, or their logarithms."""
        wide = jnp.promote_types(self.dtype.param, jnp.float32)
        values = jax.random.uniform(self.rngs.params(), shape, wide, *bounds)
        values = (jnp.log(values) if log else values).astype(self.dtype.param)
        return nnx.Param(values, axes=axes, contracted=0, copies=0)

    def constant(self, value: float, shape: tuple[int, ...], axes: tuple[str, ...], copies: int = 0) -> nnx.Param:
        """One value everywhere: 1 for scales, 0 for biases."""
        return nnx.Param(jnp.full(shape, value, self.dtype.param), axes=axes, contracted=0, copies=copies)


def get_params(model: nnx.Module) -> Params:
    """The model's parameters by dotted path, for example ``stack.slots.0.attn.q_proj.kernel``."""
    return {_dotted(path): variable.get_value() for path, variable in nnx.to_flat_state(nnx.state(model))}


def with_params(model: nnx.Module, params: Mapping[str, jax.Array]) -> nnx.Module:
    """A copy of ``model`` (concrete or abstract) that holds ``params``; every name must be given."""
    graphdef, state = nnx.split(model)
    flat = [(path, variable.replace(params[_dotted(path)])) for path, variable in nnx.to_flat_state(state)]
    return nnx.merge(graphdef, nnx.from_flat_state(flat))


def param_specs(model: nnx.Module) -> dict[str, ParamSpec]:
    """Spec of every parameter of a concrete or an abstract model, by dotted path."""
    flat = nnx.to_flat_state(nnx.state(model))
    return {_dotted(path): _spec(variable) for path, variable in flat}


def _spec(variable: nnx.Variable) -> ParamSpec:
    value = variable.get_value()
    metadata = variable.get_metadata()
    return ParamSpec(tuple(value.shape), jnp.dtype(value.dtype), metadata["axes"], metadata["contracted"], metadata["copies"])


def _dotted(path: tuple) -> str:
    return ".".join(str(part) for part in path)
