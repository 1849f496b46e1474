"""Feed-forward networks drawn over the whole space of them."""

from jax_transformer import config as c
from parity_tests.builders import ACTIVATIONS
from parity_tests.drawing_parts import Pick


def draw_ffn(pick: Pick, causal: bool) -> c.Ffn:
    """Of any kind; what is not for a ``causal`` model is acknowledged."""
    return _draw_moe(pick, causal) if pick((False, False, False, True)) else _draw_dense(pick)


def _draw_moe(pick: Pick, causal: bool) -> c.Moe:
    groups = pick((None, None, c.ExpertGroups(count=2, kept=1, top=pick((1, 2)))))
    num_experts = pick((3, 4, 5)) if groups is None else pick((4, 6))
    top_k, bias, scale = pick((1, 2) if groups else (1, 2, 3)), pick((False, True)), pick((1.0, 1.6))
    renormalize = pick((True, False))
    floor = pick((0.0, 0.5)) if renormalize else 0.0
    weighed = {"top_k": top_k, "renormalize": renormalize, "choice_bias": bias, "groups": groups, "scale": scale}
    rules: list[c.Routing] = [
        c.SoftmaxTopK(**weighed, floor=floor),
        c.SigmoidTopK(**weighed),
        c.ExpertChoice(capacity_factor=pick((0.7, 1.5)), acausal=causal),
        *([] if groups else [c.TopKSoftmax(top_k=top_k)]),
    ]
    routing = pick(rules)
    shared = _draw_dense(pick) if pick((False, True)) else None
    return c.Moe(
        num_experts=num_experts,
        routing=routing,
        expert=_draw_dense(pick, learned=False),
        shared=shared,
        shared_gate=shared is not None and pick((False, True)),
        capacity_factor=None if isinstance(routing, c.ExpertChoice) else pick((None, None, 0.9)),
        weigh=pick(("output", "output", "input")),
        router_bias=pick((False, True)),
        router_noise=pick((0.0, 0.1)),
        load_balance_weight=pick((0.01, 0.2)),
        router_z_weight=pick((0.001, 0.0)),
        implementation=pick(("auto", "dense", "grouped")),
    )


def _draw_dense(pick: Pick, learned: bool = True) -> c.DenseFfn:
    width = pick(({"hidden_dim": pick((1, 6, 11, 16))}, {"expansion_factor": 1.7, "multiple_of": pick((1, 4))}))
    bias = pick((False, True))
    if pick((False, False, True)):
        return c.ClampedGlu(**width, limit=pick((7.0, 0.5)), alpha=pick((1.702, 1.1)), bias=bias)
    activations = [name for name in ACTIVATIONS if learned or name != "xielu"]
    return pick((c.Glu, c.Mlp))(**width, activation=pick(activations), bias=bias)
