"""What a mutation is."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

from torch import nn

from jax_transformer import config as c
from parity_tests import torch_side
from parity_tests.mutations.bases import BASES


@dataclass(frozen=True)
class Mutation:
    """One detail, broken."""

    name: str
    base: str
    """Key of the model in ``BASES`` that it breaks."""
    edits: tuple[tuple[str, Any], ...] = ()
    """Dotted config paths and the values that the torch half gets instead."""
    patch: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Breaks code while it is entered."""
    first: str = ""
    """What the first comparison out of budget must be, as a pattern for ``stage name``; empty: anything."""

    def config(self) -> c.Model:
        """What the torch half is built from."""
        config = BASES[self.base]
        for path, value in self.edits:
            config = edited(config, path, value)
        return config


def edited(config: Any, path: str, value: Any) -> Any:
    """``config`` with the value at a dotted path replaced, unchecked: a mutation may be impossible."""
    key, _, rest = path.partition(".")
    if isinstance(config, tuple):
        index = int(key)
        return (*config[:index], edited(config[index], rest, value) if rest else value, *config[index + 1 :])
    return config.model_copy(update={key: edited(getattr(config, key), rest, value) if rest else value})


def on_model(change: Callable[[nn.Module], None]) -> Callable[[], AbstractContextManager[Any]]:
    """A patch that changes every torch model once it is built."""
    build = torch_side.build_model

    def build_and_change(*args: Any) -> nn.Module:
        model = build(*args)
        change(model)
        return model

    return lambda: mock.patch.object(torch_side, "build_model", build_and_change)


def on_forward(path: str, change: Callable[..., Any]) -> Callable[[], AbstractContextManager[Any]]:
    """A patch after which the module at ``path`` returns ``change(module, forward, *inputs)``."""

    def apply(model: nn.Module) -> None:
        module = model.get_submodule(path)
        forward = module.forward
        module.forward = lambda *args, **kwargs: change(module, forward, *args, **kwargs)

    return on_model(apply)


def replacing(owner: Any, name: str, value: Any) -> Callable[[], AbstractContextManager[Any]]:
    """A patch of one attribute."""
    return lambda: mock.patch.object(owner, name, value)


@contextmanager
def on_training(change: Callable[[c.Train], c.Train]) -> Iterator[None]:
    """While it is entered, the torch half trains with other hyperparameters."""
    train = torch_side.TorchSide.train

    def changed(self: Any, weights: Any, batches: Any, settings: c.Train) -> Any:
        return train(self, weights, batches, change(settings))

    with mock.patch.object(torch_side.TorchSide, "train", changed):
        yield


def on_field(base: str, owner: str, path: str, value: Any, first: str = "", label: str = "") -> Mutation:
    """A wrong value of the field at a dotted path, named after its class."""
    name = f"{owner}.{path.rpartition('.')[2]}{label}"
    return Mutation(name, base, ((path, value),), first=first)
