"""One module in both packages with the same weights, numpy in and numpy out."""

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import Any

import jax
import numpy as np
import torch

from jax_transformer import config
from jax_transformer.nn.params import Maker, get_params, param_specs, with_params
from parity_tests.ops.pairs import PACKAGES, array, tensor
from parity_tests.tolerances import MODULE
from torch_reference.nn.params import Maker as TorchMaker

EXPLICIT_CASTS = {"xla_allow_excess_precision": False}
"""Without it XLA may leave out a cast down and up again."""

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "filter": "weight"}


class Twin:
    """A module of one package; ``weights`` are in torch's names and layouts."""

    def __init__(self, package: str, path: str, arguments: tuple[Any, ...], dtype: str):
        self.package = package
        self.dtype = dtype
        file, name, *keys = path.split(":")
        found = getattr(import_module(f"{package}.{file}"), name)
        build = found[type(arguments[0])] if keys else found
        dtypes = config.Dtype(param=dtype, compute=dtype)
        ours = package == "jax_transformer"
        make = Maker(jax.random.key(0), dtypes, 0.02, 0.01) if ours else TorchMaker(torch.Generator(), dtypes, 0.02, 0.01)
        self.module = build(*arguments[:2], make, *arguments[2:])

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take these weights, and no others."""
        self.weights = weights
        if self.package == "torch_reference":
            self.module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
            return
        specs = param_specs(self.module)
        assert {hub_name(path) for path in specs} == weights.keys()
        params = {}
        for path, spec in specs.items():
            value = weights[hub_name(path)]
            value = value.T if path.endswith("kernel") else value
            params[path] = tensor(self.package, value.reshape(spec.shape), self.dtype)
        self.module = with_params(self.module, params)

    def context(self, q: np.ndarray, k: np.ndarray, *segments: np.ndarray, causal: bool = True, **more: Any) -> Any:
        """A context of positions, segments and whatever else it may hold."""
        mask = import_module(f"{self.package}.ops.mask").Mask(*self.tensors(q, k, *segments), causal=causal)
        return import_module(f"{self.package}.nn.context").Context(mask, **more)

    def tensors(self, *arrays: np.ndarray) -> list[Any]:
        """Arrays as the package's own; integers are int32."""
        return [tensor(self.package, a, "int32" if a.dtype.kind == "i" else self.dtype) for a in arrays]

    @cached_property
    def compute(self) -> Any:
        """The module as a function that returns all its taps; it leaves their names in ``names`` and their ``dtypes``."""

        def compute(x: Any, context: Any, options: Any) -> Any:
            tap = import_module(f"{self.package}.nn.tap").Tap({})
            result = self.module(x, context, tap=tap, **options)
            self.names = [*tap.values, "output"]
            y, memory = result if isinstance(result, tuple) else (result, None)
            values = [*tap.values.values(), y]
            self.dtypes = [str(value.dtype).removeprefix("torch.") for value in values]
            return values, memory

        return jax.jit(compute, compiler_options=EXPLICIT_CASTS) if self.package == "jax_transformer" else compute

    def params(self) -> dict[str, np.ndarray]:
        """Initial weights by torch's names, in the package's own layout."""
        if self.package == "torch_reference":
            return {name: array(value) for name, value in self.module.state_dict().items()}
        return {hub_name(path): array(value) for path, value in get_params(self.module).items()}


def hub_name(path: str) -> str:
    """The torch name of a JAX parameter."""
    prefix, dot, leaf = path.rpartition(".")
    return f"{prefix}{dot}{LEAVES.get(leaf, leaf)}"


def twins(path: str, *arguments: Any, rng: np.random.Generator, dtype: str = "float64") -> tuple[Twin, Twin]:
    """Modules of both packages with the same random weights: none is at its initial value.

    ``path`` is ``"nn.file:Class"`` or ``"nn.file:TABLE:"``, where the table is asked for the type of the first argument.
    Arguments are config, width, and those that come after the maker.
    """
    ours, theirs = (Twin(package, path, arguments, dtype) for package in PACKAGES)
    shapes = {name: value.shape for name, value in theirs.params().items()}
    weights = {name: rng.normal(size=shape) * (0.5 if len(shape) > 1 else 1.0) for name, shape in shapes.items()}
    for twin in (ours, theirs):
        twin.load(weights)
    return ours, theirs


def assert_same(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray], **tolerance: float) -> None:
    """Same names in the same order, same dtypes, same values."""
    assert list(got) == list(want)
    for name, value in want.items():
        assert got[name].dtype == value.dtype, name
        np.testing.assert_allclose(got[name], value, err_msg=name, **(tolerance or MODULE))


def run(twin: Twin, x: np.ndarray, context: Any, **options: Any) -> tuple[dict[str, np.ndarray], Any]:
    """Everything a token mixer computes, by name and in order, and its memory; compiled in JAX."""
    values, memory = twin.compute(*twin.tensors(x), context, options)
    return dict(zip(twin.names, map(array, values), strict=True)), memory
