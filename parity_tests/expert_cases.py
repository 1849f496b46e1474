"""Which mixtures of experts are compared."""

from jax_transformer import config as c
from parity_tests.builders import block, cross, decoder, encoder_decoder, moe, tower
from parity_tests.inputs import DISTINCT


def expert_cases() -> dict[str, c.Model]:
    """Every routing and every kind of expert, in both implementations."""
    clamped = c.ClampedGlu(hidden_dim=6, limit=0.7, alpha=1.3, bias=True)
    grouped, dense = {"implementation": "grouped"}, {"implementation": "dense"}
    groups = c.ExpertGroups(count=2, kept=1, top=1)
    choosing = c.ExpertChoice(capacity_factor=1.4, acausal=True)
    mixtral = moe(c.SoftmaxTopK(top_k=2), **grouped)
    qwen = moe(c.SoftmaxTopK(top_k=2, renormalize=False, scale=1.7), shared=c.Mlp(hidden_dim=5), shared_gate=True, **dense)
    ernie = moe(c.SoftmaxTopK(top_k=3, floor=0.6, choice_bias=True), c.Mlp(hidden_dim=6, bias=True), **grouped)
    deepseek = c.SigmoidTopK(top_k=2, choice_bias=True, groups=c.ExpertGroups(count=3, kept=2), scale=2.5)
    plain = c.SigmoidTopK(top_k=1, renormalize=False)
    oss = moe(c.TopKSoftmax(top_k=2), clamped, router_bias=True, load_balance_weight=0.3, router_z_weight=0.2, **grouped)
    return {
        "experts_softmax": decoder(block(ffn=mixtral), block(ffn=qwen), block(ffn=ernie), num_layers=4),
        "experts_sigmoid": decoder(
            block(ffn=moe(deepseek, num_experts=6, shared=c.Glu(hidden_dim=3, activation="xielu"), **grouped)),
            block(ffn=moe(plain, load_balance_weight=0.0)),
            num_layers=5,
            stack={"first": (block(),), "remat": "full"},
        ),
        "experts_weighed_inputs": _weighing_inputs(plain, clamped),
        "experts_clamped": decoder(block(ffn=oss), block(), num_layers=3, stack={"unroll": True, "remat": "dots"}),
        "experts_full": decoder(
            block(ffn=moe(c.SoftmaxTopK(top_k=2, groups=groups), capacity_factor=0.8, **grouped)),
            block(ffn=moe(c.TopKSoftmax(top_k=2), capacity_factor=0.6, **dense)),
        ),
        "experts_choosing": decoder(
            block(ffn=moe(choosing, **grouped)),
            block(ffn=moe(choosing, clamped, weigh="input", **dense)),
            block(ffn=moe(choosing, weigh="input", **grouped)),
            vocab_size=DISTINCT,
        ),
        "experts_encoder_decoder": encoder_decoder(
            tower(block(), block(ffn=moe(c.ExpertChoice(capacity_factor=1.1)))),
            tower(block(cross_attention=cross(), ffn=mixtral), num_layers=2),
            vocab_size=DISTINCT,
        ),
    }


def _weighing_inputs(plain: c.Routing, clamped: c.DenseFfn) -> c.Decoder:
    mixtures = (
        moe(plain, shared=c.Glu(hidden_dim=7), weigh="input", implementation="grouped"),
        moe(c.SigmoidTopK(top_k=3, scale=1.6), clamped, weigh="input", implementation="dense"),
        moe(
            c.SoftmaxTopK(top_k=2), c.Mlp(hidden_dim=6, bias=True), capacity_factor=0.8, weigh="input", implementation="grouped"
        ),
    )
    return decoder(*(block(ffn=mixture) for mixture in mixtures))
