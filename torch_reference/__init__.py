"""The PyTorch mirror of ``jax_transformer``: the same configs, files and names, and the same numbers.

Importing this package imports nothing else: each name below is loaded when it is first used (PEP 562). It needs no JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jax_transformer import config as config
    from jax_transformer.config.load import load_config as load_config
    from torch_reference.checkpoint import load_pretrained as load_pretrained
    from torch_reference.checkpoint import save_pretrained as save_pretrained
    from torch_reference.models import build_model as build_model
    from torch_reference.models import count_parameters as count_parameters

_HOMES = {
    "build_model": "torch_reference.models",
    "count_parameters": "torch_reference.models",
    "load_config": "jax_transformer.config.load",
    "load_pretrained": "torch_reference.checkpoint",
    "save_pretrained": "torch_reference.checkpoint",
}

__all__ = ["__version__", "config", *sorted(_HOMES)]  # pyrefly: ignore


def __getattr__(name: str) -> Any:
    if name == "config":
        return import_module("jax_transformer.config")
    if name == "__version__":
        return import_module("jax_transformer").__version__
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'torch_reference' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
