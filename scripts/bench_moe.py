"""Experts that tokens choose against a dense network of the same work, and against the Mixtral block of transformers.

    python scripts/bench_moe.py --rounds 15      # --quick: fewer tokens

Top-2 of E experts without a limit, SwiGLU, routing included, forward and backward in float32. The dense network is one GLU over
twice the tokens, which are as many multiplications. Prints the median milliseconds and the ratios; contestants take turns.
"""

import argparse
import os

import numpy as np
from interleave import measure, serve

D_MODEL, HIDDEN, CHOICES = 512, 1024, 2
TOKENS, QUICK_TOKENS = 4096, 1024
FORMS = ("dense", "jax", "eager", "grouped_mm", "compile")
"""``eager`` and ``grouped_mm`` are the loop over experts and the grouped product of transformers, ``compile`` torch.compile."""


def drawn(tokens: int, num_experts: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Tokens, the router's kernel and the experts' kernels."""
    rng = np.random.default_rng(0)
    shapes = {"up": (D_MODEL, HIDDEN), "down": (HIDDEN, D_MODEL), "gate": (D_MODEL, HIDDEN)}
    kernels = {name: 0.03 * rng.normal(size=(num_experts, *shape)).astype(np.float32) for name, shape in shapes.items()}
    x, router = rng.normal(size=(tokens, D_MODEL)), 0.03 * rng.normal(size=(D_MODEL, num_experts))
    return x.astype(np.float32), router.astype(np.float32), kernels


def jax_worker(tokens: int, num_experts: int) -> None:
    """Serve the gradients of grouped experts, or of the dense network if there are no experts."""
    from jax_transformer.cli.process import prepare

    prepare()
    import jax
    import jax.numpy as jnp

    from jax_transformer.ops.experts.dense import Experts
    from jax_transformer.ops.experts.grouped import grouped_experts
    from jax_transformer.ops.routing import softmax_top_k

    def activate(gate: jax.Array, up: jax.Array) -> jax.Array:
        return jax.nn.silu(gate) * up

    def mixture(x: jax.Array, router: jax.Array, experts: Experts) -> jax.Array:
        routing = softmax_top_k(x @ router, CHOICES, renormalize=True)
        return jnp.sum(grouped_experts(x, routing.experts, routing.weights, experts, activate) ** 2)

    def dense(x: jax.Array, router: jax.Array, experts: Experts) -> jax.Array:
        assert experts.gate is not None
        return jnp.sum((activate(x @ experts.gate[0], x @ experts.up[0]) @ experts.down[0]) ** 2)

    x, router, kernels = jax.tree.map(jnp.asarray, drawn(tokens, max(num_experts, 1)))
    given = (x if num_experts else jnp.concatenate([x] * CHOICES), router, Experts(**kernels))
    step = jax.jit(jax.value_and_grad(mixture if num_experts else dense, argnums=(0, 1, 2)))
    serve(lambda: jax.block_until_ready(step(*given)))


def torch_worker(form: str, tokens: int, num_experts: int) -> None:
    """Serve the gradients of the Mixtral block with the same tokens and kernels."""
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    import torch
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    sizes = {"hidden_size": D_MODEL, "intermediate_size": HIDDEN, "num_local_experts": num_experts}
    c = MixtralConfig(**sizes, num_experts_per_tok=CHOICES)
    c._experts_implementation = "grouped_mm" if form == "grouped_mm" else "eager"
    block = MixtralSparseMoeBlock(c)
    x, router, kernels = drawn(tokens, num_experts)
    up = np.concatenate([kernels["gate"], kernels["up"]], axis=-1)
    weights = {"gate.weight": router.T, "experts.gate_up_proj": up.mT, "experts.down_proj": kernels["down"].mT}
    block.load_state_dict({name: torch.tensor(np.ascontiguousarray(value)) for name, value in weights.items()})
    given, forward = torch.tensor(x)[None].requires_grad_(), torch.compile(block) if form == "compile" else block

    def work() -> None:
        torch.autograd.grad((forward(given) ** 2).sum(), [given, *block.parameters()])

    serve(work)


def report(num_experts: int, tokens: int, rounds: int, forms: list[str]) -> None:
    """Measure one number of experts and print its table."""
    command = (__file__, "--tokens", str(tokens), "--experts")
    seconds = measure({form: (*command, str(num_experts), "--worker", form) for form in forms}, rounds)
    print(f"\n{num_experts} experts, {tokens} tokens, {rounds} rounds\n{'':12}{'ms':>10}{'/ dense':>10}{'/ jax':>10}")
    for form, taken in seconds.items():
        print(f"{form:12}{1e3 * taken:10.1f}{taken / seconds['dense']:10.2f}{taken / seconds['jax']:10.2f}", flush=True)


def main() -> None:
    """Run the benchmark, or one contestant of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--forms", nargs="+", choices=FORMS[2:], default=list(FORMS[2:]), help="forms of transformers")
    parser.add_argument("--worker", choices=FORMS, help=argparse.SUPPRESS)
    parser.add_argument("--experts", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker in ("dense", "jax"):
        jax_worker(arguments.tokens, arguments.experts if arguments.worker == "jax" else 0)
    elif arguments.worker:
        torch_worker(arguments.worker, arguments.tokens, arguments.experts)
    else:
        for num_experts in (8, 64):
            tokens = QUICK_TOKENS if arguments.quick else TOKENS
            report(num_experts, tokens, arguments.rounds, ["dense", "jax", *arguments.forms])


if __name__ == "__main__":
    main()
