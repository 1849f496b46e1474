"""Mistakes in the optimizer."""

from typing import Any

import torch
from torch import nn

from jax_transformer import config as c
from parity_tests import torch_side
from parity_tests.measured import TRAIN
from parity_tests.mutations.mutation import Mutation, edited, on_training, replacing

_BUILD = torch_side.build_optimizer
_PEAK = TRAIN["clipped"].learning_rate


def _setting(name: str, value: Any, first: str = "") -> Mutation:
    def change(train: c.Train) -> c.Train:
        return edited(train, name, value)

    return Mutation(f"train.{name}", "square", patch=lambda: on_training(change), first=f"optimizer .*{first}")


class _NoBiasCorrection(torch.optim.AdamW):
    """Starts as if a million steps had been taken."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"step": torch.tensor(1e6), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}


class _NoChange(torch.optim.AdamW):
    """Keeps its moments and changes nothing."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["lr"] = 0.0
        super().step(closure)


class _DecayWithoutRate(torch.optim.AdamW):
    """Decays by the full weight decay, whatever the learning rate is."""

    def step(self, closure: Any = None) -> None:
        kept = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            group["weight_decay"] = group["weight_decay"] * _PEAK / group["lr"]
        super().step(closure)
        for group, decay in zip(self.param_groups, kept, strict=True):
            group["weight_decay"] = decay


def _with_class(optimizer: type) -> Any:
    return lambda: replacing(torch.optim, "AdamW", optimizer)()


def _decay_everything(model: nn.Module, train: c.Train) -> torch.optim.Optimizer:
    built = _BUILD(model, train)
    for group in built.param_groups:
        group["weight_decay"] = train.optimizer.weight_decay
    return built


def _clip_like_torch(parameters: list[nn.Parameter], clip_norm: float | None) -> None:
    if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, clip_norm)


def _clip_each(parameters: list[nn.Parameter], clip_norm: float | None) -> None:
    for parameter in parameters:
        _clip_like_torch([parameter], clip_norm)


TRAINING_MUTATIONS = [
    _setting("optimizer.beta1", 0.81, "first moment"),
    _setting("optimizer.beta2", 0.91, "second moment"),
    _setting("optimizer.eps", 1e-8, "change"),
    _setting("optimizer.weight_decay", 0.0, "change"),
    _setting("optimizer.decay_embedding", True, "embed.weight change"),
    _setting("learning_rate", 3.1e-3, "change"),
    _setting("min_learning_rate", 0.0),
    _setting("warmup_steps", 3, "change"),
    _setting("steps", 9),
    Mutation("no bias correction", "square", patch=_with_class(_NoBiasCorrection), first="optimizer .* change"),
    Mutation("do-nothing optimizer", "square", patch=_with_class(_NoChange), first="optimizer .* change"),
    Mutation("decay not scaled by the rate", "square", patch=_with_class(_DecayWithoutRate), first="optimizer .* change"),
    Mutation("coupled decay (L2)", "square", patch=_with_class(torch.optim.Adam), first="optimizer .* first moment"),
    Mutation(
        "decay on norms and biases",
        "everything",
        patch=replacing(torch_side, "build_optimizer", _decay_everything),
        first="optimizer .* change",
    ),
    Mutation(
        "clipping by norm + 1e-6",
        "square",
        patch=replacing(torch_side, "clip_gradients", _clip_like_torch),
        first="optimizer .* first moment",
    ),
    Mutation(
        "clipping per parameter",
        "square",
        patch=replacing(torch_side, "clip_gradients", _clip_each),
        first="optimizer .* first moment",
    ),
    Mutation(
        "no clipping",
        "square",
        patch=replacing(torch_side, "clip_gradients", lambda parameters, norm: None),
        first="optimizer .* first moment",
    ),
]
