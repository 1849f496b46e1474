"""The same operation in both packages, numpy in and numpy out."""

from importlib import import_module
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from parity_tests.tolerances import OPERATION

PACKAGES = ("jax_transformer", "torch_reference")


def operation(package: str, path: str) -> Any:
    """``operation("torch_reference", "norm.rms_norm")``: that function of that package's ``ops``."""
    module, name = path.rsplit(".", 1)
    return getattr(import_module(f"{package}.ops.{module}"), name)


def tensor(package: str, value: Any, dtype: str | None = None) -> Any:
    """A numpy array as the package's own; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    if package == "jax_transformer":
        return jnp.asarray(value, dtype)
    return torch.tensor(value, dtype=None if dtype is None else getattr(torch, dtype))


def array(value: Any) -> np.ndarray:
    """A result of either package; 16-bit floats become float32, which holds them exactly."""
    if isinstance(value, torch.Tensor):
        return (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
    return np.asarray(value.astype(jnp.float32) if value.dtype == jnp.bfloat16 else value)


def call(package: str, path: str, *arguments: Any, dtype: str | None = None, **options: Any) -> np.ndarray:
    """The operation's result; floating arrays go in as ``dtype``."""
    cast = [tensor(package, a, dtype if isinstance(a, np.ndarray) and a.dtype.kind == "f" else None) for a in arguments]
    return array(operation(package, path)(*cast, **options))


def agreed(path: str, *arguments: Any, **options: Any) -> np.ndarray:
    """The result, after checking that both packages have the same in float64."""
    ours, theirs = (call(package, path, *arguments, **options) for package in PACKAGES)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(theirs, ours, **OPERATION)
    return ours
