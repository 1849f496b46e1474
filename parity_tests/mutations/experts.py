"""Mistakes in mixtures of experts, and wrong values of their fields."""

from typing import Any

from torch import Tensor

from parity_tests import torch_side
from parity_tests.mutations.mutation import Mutation, on_field, replacing
from torch_reference.nn.ffn import experts as experts_file
from torch_reference.nn.ffn import moe as moe_file
from torch_reference.nn.ffn import router as router_file

_LAYERS = [f"stack.pattern.{layer}.ffn" for layer in range(4)]
_STRUCTURE = "structure"
_ROUTE, _BALANCED = moe_file.route, torch_side.balanced_bias


def _weights(layer: int) -> str:
    return f"forward stack.layers.{layer}.ffn.weights"


def _fields() -> list[Mutation]:
    softmax, sigmoid, plain, choosing = (f"{path}.routing" for path in _LAYERS)
    wrong = [
        ("Moe", f"{_LAYERS[0]}.num_experts", 12, _STRUCTURE),
        ("Moe", f"{_LAYERS[0]}.shared_gate", False, _STRUCTURE),
        ("Moe", f"{_LAYERS[0]}.router_bias", False, _STRUCTURE),
        ("Moe", f"{_LAYERS[0]}.load_balance_weight", 0.31, "forward loss"),
        ("Moe", f"{_LAYERS[0]}.router_z_weight", 0.21, "forward loss"),
        ("Moe", f"{_LAYERS[2]}.weigh", "input", "forward stack.layers.2.ffn.routed"),
        ("Moe", f"{_LAYERS[2]}.capacity_factor", 0.7, _weights(2)),
        ("SoftmaxTopK", f"{softmax}.top_k", 1, _weights(0)),
        ("SoftmaxTopK", f"{softmax}.renormalize", False, _weights(0)),
        ("SoftmaxTopK", f"{softmax}.floor", 0.0, _weights(0)),
        ("SoftmaxTopK", f"{softmax}.choice_bias", False, _STRUCTURE),
        ("SoftmaxTopK", f"{softmax}.scale", 1.31, _weights(0)),
        ("ExpertGroups", f"{softmax}.groups.count", 2, _weights(0)),
        ("ExpertGroups", f"{softmax}.groups.kept", 1, _weights(0)),
        ("ExpertGroups", f"{softmax}.groups.top", 1, _weights(0)),
        ("SigmoidTopK", f"{sigmoid}.top_k", 3, _weights(1)),
        ("SigmoidTopK", f"{sigmoid}.renormalize", False, _weights(1)),
        ("SigmoidTopK", f"{sigmoid}.choice_bias", False, _STRUCTURE),
        ("SigmoidTopK", f"{sigmoid}.scale", 1.41, _weights(1)),
        ("TopKSoftmax", f"{plain}.top_k", 3, _weights(2)),
        ("ExpertChoice", f"{choosing}.capacity_factor", 1.1, _weights(3)),
    ]
    return [on_field("experts", *row) for row in wrong]


def _code() -> list[Mutation]:
    def unpadded(c: Any, logits: Tensor, bias: Tensor | None, real: Tensor | None) -> Any:
        return _ROUTE(c, logits, bias, None)

    def detached(c: Any, logits: Tensor, bias: Tensor | None, real: Tensor | None) -> Any:
        routed, usage = _ROUTE(c, logits, bias, real)
        return routed._replace(weights=routed.weights.detach()), usage

    def halves(self: Any, *hidden: Tensor) -> Tensor:
        return hidden[0] * experts_file.ACTIVATION[self.config.activation](hidden[-1])

    def scaled(*args: Any, **options: Any) -> Tensor:
        return 2 * router_file_z(*args, **options)

    router_file_z = router_file.router_z
    wrong = {
        "padding is routed": (moe_file, "route", unpadded, _weights(0)),
        "router does not learn from its experts": (moe_file, "route", detached, "gradient"),
        "experts swap gate and up": (experts_file.Experts, "activate", halves, "forward stack.layers.0.ffn.routed"),
        "router z twice": (router_file, "router_z", scaled, "forward experts.stack.layers.0.router_z"),
        "choice bias moves the other way": (
            torch_side,
            "balanced_bias",
            lambda bias, counts, rate: _BALANCED(bias, counts, -rate),
            "optimizer .*choice_bias change",
        ),
    }
    return [Mutation(name, "experts", patch=replacing(*patch), first=first) for name, (*patch, first) in wrong.items()]


EXPERT_MUTATIONS = [*_fields(), *_code()]
