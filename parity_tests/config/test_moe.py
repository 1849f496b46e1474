"""Mixtures of experts without a meaning are refused, each with the reason and what to change."""

from typing import Any

import pytest
from pydantic import ValidationError

from jax_transformer import config as c
from parity_tests.builders import block, cross, decoder, encoder, encoder_decoder, moe, tower

SIGMOID = {"kind": "sigmoid_top_k", "top_k": 2}
GROUPS = {"count": 2, "kept": 1}
CHOICE = {"kind": "expert_choice", "capacity_factor": 1.0}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"routing": {"kind": "top_k_softmax", "top_k": 5}}, "routing.top_k=5 experts per token of 4: lower top_k or raise"),
        ({"routing": SIGMOID | {"top_k": 3, "groups": GROUPS}}, "top_k=3 experts per token of 2 in the 1 groups that are kept"),
        ({"routing": SIGMOID | {"groups": GROUPS | {"count": 3}}}, "num_experts=4 are not routing.groups.count=3 groups"),
        ({"routing": SIGMOID | {"groups": GROUPS | {"top": 3}}}, "groups.top=3 best experts of a group of 2: lower top"),
        ({"routing": SIGMOID | {"groups": GROUPS | {"kept": 3}}}, "kept=3 groups of count=2: keep at most as many"),
        ({"routing": {"kind": "softmax_top_k", "top_k": 2, "floor": 0.1, "renormalize": False}}, "leave floor out"),
        ({"routing": CHOICE, "capacity_factor": 1.0}, "with expert_choice no expert overflows; leave it out"),
        ({"shared_gate": True}, "shared is null: set it, or drop the gate"),
        ({"expert": {"kind": "mlp", "hidden_dim": 3, "activation": "xielu"}}, "use another activation"),
    ],
)
def test_an_impossible_mixture_is_refused_with_the_reason(changes: dict[str, Any], reason: str):
    valid = {"num_experts": 4, "routing": SIGMOID, "expert": {"kind": "glu", "hidden_dim": 3}}
    c.Moe.model_validate(valid)
    with pytest.raises(ValidationError, match=reason):
        c.Moe.model_validate(valid | changes)


def test_a_causal_model_refuses_experts_that_choose_unless_that_is_acknowledged():
    choosing, known = (block(ffn=moe(c.ExpertChoice(capacity_factor=1.0, acausal=known))) for known in (False, True))
    reading = block(cross_attention=cross())
    refused = r"stack.pattern\[1\].ffn.routing: with expert_choice a token's experts depend on later tokens.*acausal: true"
    with pytest.raises(ValidationError, match=refused):
        decoder(block(), choosing)
    with pytest.raises(ValidationError, match=f"decoder.{refused}"):
        encoder_decoder(tower(block()), tower(reading, choosing))
    encoder(choosing)
    encoder_decoder(tower(choosing), tower(reading, known))
    decoder(known)
