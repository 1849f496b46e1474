"""Mistakes in how the parts of a model are joined, in its loss and in its initial values."""

from typing import Any

import torch
from torch import Tensor, nn

from parity_tests import torch_side
from parity_tests.mutations.mutation import Mutation, on_forward, on_model, replacing
from torch_reference.nn import block as block_file
from torch_reference.nn.linear import Embed, project
from torch_reference.nn.params import Maker

_ADD, _WEIGHTS, _ENTROPY = block_file.add_branch, torch_side.next_token_weights, torch_side.cross_entropy


def _residuals() -> list[Mutation]:
    wrong = {
        "residual left out": lambda x, branch, *rest: branch,
        "branch left out": lambda x, branch, *rest: x + 0 * branch,
        "branch added twice": lambda x, branch, *rest: x + 2 * branch,
    }
    cut = replacing(block_file, "add_branch", lambda x, branch, *rest: _ADD(x, branch.detach(), *rest))
    return [
        *(
            Mutation(name, "everything", patch=replacing(block_file, "add_branch", change), first="forward stack.layers.0.")
            for name, change in wrong.items()
        ),
        Mutation("branch cut from the backward pass", "everything", patch=cut, first="gradient"),
        Mutation("two layers swapped", "square", patch=on_model(_swap_layers), first="forward stack.layers.0.attn_norm"),
    ]


def _swap_layers(model: Any) -> None:
    layers = model.stack.layers
    layers[0].forward, layers[2].forward = layers[2].forward, layers[0].forward


def _embedding() -> list[Mutation]:
    def detached(self: Embed, x: Tensor) -> Tensor:
        return project(x, self.weight.detach().to(x.dtype))

    def other(self: Embed, x: Tensor) -> Tensor:
        return project(x, self.weight.flip(0).to(x.dtype))

    def scaled(module: Any, forward: Any, ids: Tensor) -> Tensor:
        return forward(ids) * module.weight.shape[1] ** 0.5

    return [
        Mutation(
            "tied head does not train", "everything", patch=replacing(Embed, "attend", detached), first="gradient embed.weight"
        ),
        Mutation("head tied to another matrix", "everything", patch=replacing(Embed, "attend", other), first="forward logits"),
        Mutation("embedding scaled", "everything", patch=on_forward("embed", scaled), first="forward embed"),
    ]


def _loss() -> list[Mutation]:
    wrong = {
        "loss counts padding": ("next_token_weights", lambda segments: torch.ones_like(_WEIGHTS(segments))),
        "loss counts first tokens": ("next_token_weights", lambda segments: (segments[:, 1:] != 0).float()),
        "loss counts what follows the last": ("next_token_weights", lambda segments: (segments[:, :-1] != 0).float()),
        "targets not shifted": (
            "cross_entropy",
            lambda logits, targets, counted: _ENTROPY(logits, targets.roll(1, 1), counted),
        ),
        "loss in bits": ("cross_entropy", lambda *args: _ENTROPY(*args) / 0.6931471805599453),
    }
    return [
        Mutation(name, "everything", patch=replacing(torch_side, *change), first="forward loss")
        for name, change in wrong.items()
    ]


def _initial() -> list[Mutation]:
    def zeros(self: Maker, value: float, shape: tuple[int, ...]) -> nn.Parameter:
        return nn.Parameter(torch.zeros(shape, dtype=getattr(torch, self.dtype.param)))

    return [Mutation("norm scales start at zero", "everything", patch=replacing(Maker, "constant", zeros), first="init")]


WIRING_MUTATIONS = [*_residuals(), *_embedding(), *_loss(), *_initial()]
