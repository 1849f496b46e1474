"""Transformers in JAX, with a PyTorch mirror in ``torch_reference`` that computes the same numbers.

Importing this package imports no framework: each name below is loaded when it is first used (PEP 562), so that the command
line answers at once and the config tree can be used without JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jax_transformer import config as config
    from jax_transformer.config.load import load_config as load_config
    from jax_transformer.convert.pretrained import load_pretrained as load_pretrained
    from jax_transformer.convert.pretrained import save_pretrained as save_pretrained
    from jax_transformer.models import build_model as build_model
    from jax_transformer.models import count_parameters as count_parameters

__version__ = "0.1.0"

_HOMES = {
    "build_model": "jax_transformer.models",
    "count_parameters": "jax_transformer.models",
    "load_config": "jax_transformer.config.load",
    "load_pretrained": "jax_transformer.convert.pretrained",
    "save_pretrained": "jax_transformer.convert.pretrained",
}

__all__ = ["__version__", "config", *sorted(_HOMES)]  # pyrefly: ignore


def __getattr__(name: str) -> Any:
    if name == "config":
        return import_module("jax_transformer.config")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'jax_transformer' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
