"""Mixers at length: attention through a window, attention by blocks and the chunked delta rule against what they are to beat.

    python scripts/bench_longcontext.py --rounds 15      # --quick: shorter sequences

Prints the median time of a forward pass and of one with gradients, in float32 for one sequence, the temporary memory that the
compiled function needs (JAX only), and the ratios of each kind. Contestants of one kind take turns.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from interleave import measure, serve

HEADS, HEAD_DIM, WINDOW = 4, 64, 256
DELTA_KEY_HEADS, DELTA_HEADS, DELTA_DIM = 2, 4, 128
"""The widths of a head of Qwen3-Next, and an eighth of its heads."""

PLANS: dict[str, dict[str, list[tuple[str, int]]]] = {
    "full": {
        "windowed": [("windowed", length) for length in (4096, 8192, 16384, 32768)],
        "blockwise": [(form, length) for length in (2048, 4096, 8192) for form in ("blockwise", "jax.nn")],
        "delta": [*(("chunked", length) for length in (1024, 4096, 16384)), ("recurrent", 4096), ("transformers", 4096)],
    },
    "quick": {
        "windowed": [("windowed", length) for length in (4096, 32768)],
        "blockwise": [(form, length) for length in (2048, 4096) for form in ("blockwise", "jax.nn")],
        "delta": [*(("chunked", length) for length in (1024, 4096)), ("recurrent", 1024), ("transformers", 1024)],
    },
}
"""Forms and lengths of each kind."""

RIVALS = {"blockwise": ("blockwise", ("jax.nn",)), "delta": ("chunked", ("recurrent", "transformers"))}


def attention_inputs(length: int) -> list[np.ndarray]:
    """Queries, keys and values."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1, length, HEADS, HEAD_DIM)).astype(np.float32) for _ in range(3)]


def delta_inputs(length: int) -> list[np.ndarray]:
    """Queries and keys of unit length, values, log-decays and rates."""
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, length, DELTA_KEY_HEADS, DELTA_DIM))
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k)]
    gates = [-0.1 * rng.exponential(size=(1, length, DELTA_HEADS)), rng.uniform(size=(1, length, DELTA_HEADS))]
    return [x.astype(np.float32) for x in (*unit, rng.normal(size=(1, length, DELTA_HEADS, DELTA_DIM)), *gates)]


def jax_form(form: str, length: int) -> tuple[Callable[..., Any], list[np.ndarray]]:
    """One of the JAX functions and its inputs."""
    import jax

    from jax_transformer.ops.attention.blockwise import blockwise_attention
    from jax_transformer.ops.attention.windowed import windowed_attention
    from jax_transformer.ops.delta_rule.chunked import chunked_delta_rule
    from jax_transformer.ops.delta_rule.recurrent import recurrent_delta_rule
    from jax_transformer.ops.mask import causal_mask

    mask, scale = causal_mask(length), HEAD_DIM**-0.5
    forms: dict[str, Callable[..., Any]] = {
        "windowed": lambda q, k, v: windowed_attention(q, k, v, mask, scale, window=WINDOW),
        "blockwise": lambda q, k, v: blockwise_attention(q, k, v, mask, scale),
        "jax.nn": lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True),
        "chunked": lambda *x: chunked_delta_rule(*x)[0],
        "recurrent": lambda *x: recurrent_delta_rule(*x)[0],
    }
    return forms[form], delta_inputs(length) if form in ("chunked", "recurrent") else attention_inputs(length)


def compiled(form: str, length: int, backward: bool) -> tuple[Any, list[Any]]:
    """The compiled function, with the gradients of everything if ``backward``, and its inputs."""
    import jax
    import jax.numpy as jnp

    function, given = jax_form(form, length)
    gradients = jax.value_and_grad(lambda *x: jnp.sum(function(*x) ** 2), argnums=tuple(range(len(given))))
    arrays = [jnp.asarray(x) for x in given]
    return jax.jit(gradients if backward else function).lower(*arrays).compile(), arrays


def worker(form: str, length: int, backward: bool) -> None:
    """Serve one function, JAX's with the process settings of the command line."""
    if form == "transformers":
        serve(transformers_work(length, backward))
        return
    from jax_transformer.cli.process import prepare

    prepare()
    import jax

    function, given = compiled(form, length, backward)
    serve(lambda: jax.block_until_ready(function(*given)))


def transformers_work(length: int, backward: bool) -> Callable[[], None]:
    """The chunked form of transformers in torch, called as Qwen3-Next calls it, which normalises queries and keys in it."""
    import torch
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

    tensors = [torch.from_numpy(x).requires_grad_(backward) for x in delta_inputs(length)]

    def work() -> None:
        q, k, v, log_decay, beta = tensors
        options = {"initial_state": None, "output_final_state": False, "use_qk_l2norm_in_kernel": True}
        with torch.set_grad_enabled(backward):
            out, _ = torch_chunk_gated_delta_rule(q, k, v, g=log_decay, beta=beta, **options)
        if backward:
            torch.autograd.grad((out**2).sum(), tensors)

    return work


def report(kind: str, contestants: list[tuple[str, int]], rounds: int) -> None:
    """Measure one kind and print its table."""
    seconds: dict[tuple[str, int, bool], float] = {}
    for backward in (False, True):
        commands = {
            f"{form} {length}": (__file__, "--form", form, "--length", str(length), *(["--backward"] if backward else []))
            for form, length in contestants
        }
        taken = measure(commands, rounds)
        seconds |= {(form, length, backward): taken[f"{form} {length}"] for form, length in contestants}
    print(f"\n{kind}, {rounds} rounds\n{'':22}{'':9}{'ms':>10}{'us/token':>10}{'temp MB':>9}{'KB/token':>10}")
    for (form, length, backward), taken in seconds.items():
        row = f"{form:13}{length:9} {'fwd+bwd' if backward else 'fwd':8}{1e3 * taken:10.1f}{1e6 * taken / length:10.2f}"
        if form != "transformers":
            memory = compiled(form, length, backward)[0].memory_analysis().temp_size_in_bytes
            row += f"{memory / 2**20:9.1f}{memory / 2**10 / length:10.1f}"
        print(row, flush=True)
    print_ratios(kind, seconds)


def print_ratios(kind: str, seconds: dict[tuple[str, int, bool], float]) -> None:
    """Time per token at the longest against the shortest sequence, and the rivals' time over ours."""
    ours, rivals = RIVALS.get(kind, (kind, ()))
    for backward in (False, True):
        lengths = sorted(length for form, length, back in seconds if form == ours and back == backward)
        short, long = lengths[0], lengths[-1]
        growth = (seconds[ours, long, backward] / long) / (seconds[ours, short, backward] / short)
        line = f"{'fwd+bwd' if backward else 'fwd':8} time per token, {long} over {short}: {growth:.2f}"
        for form, length, back in seconds:
            if form in rivals and back == backward:
                line += f"; {form} / {ours} at {length}: {seconds[form, length, back] / seconds[ours, length, back]:.2f}"
        print(line, flush=True)


def main() -> None:
    """Run the benchmark, or one contestant of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kind", choices=[*PLANS["full"], "all"], default="all")
    parser.add_argument("--form", help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--backward", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.form:
        worker(arguments.form, arguments.length, arguments.backward)
        return
    for kind, contestants in PLANS["quick" if arguments.quick else "full"].items():
        if arguments.kind in (kind, "all"):
            report(kind, contestants, arguments.rounds)


if __name__ == "__main__":
    main()
