"""The JAX training step against the same model in torch_reference, eager and compiled, both with AdamW, in float32.

    python scripts/bench_train.py --size small --rounds 31

Prints the median seconds per step, the ratio to each torch form (below 1: JAX is faster), and the fraction of the measured
matrix-multiplication peak that the step's 6 * parameters * tokens floating-point operations amount to.
"""

import argparse
from functools import partial

import numpy as np
from interleave import measure, serve

from jax_transformer import config

SIZES = {
    # layers, d_model, heads, vocabulary, sequence length, batch
    "small": (4, 128, 4, 65, 64, 12),
    "medium": (6, 384, 6, 65, 256, 12),
    "large": (12, 768, 12, 50304, 256, 4),
}
PEAK_DIM = 1024
STEPS = {"small": 10, "medium": 1, "large": 1}


def model_config(size: str, unroll: bool) -> config.Decoder:
    """A GPT-like decoder: LayerNorm, GELU MLP of four times the width, tied head."""
    layers, d_model, heads, vocab, length, _ = SIZES[size]
    attention = config.Softmax(num_heads=heads, head_dim=d_model // heads, qkv_bias=True, o_bias=True)
    ffn = config.Mlp(hidden_dim=4 * d_model, activation="gelu_tanh", bias=True)
    block = config.Block(attention=attention, ffn=ffn, norm=config.LayerNorm())
    stack = config.Stack(pattern=(block,), num_layers=layers, unroll=unroll)
    return config.Decoder(vocab_size=vocab, d_model=d_model, max_length=length, stack=stack, final_norm=config.LayerNorm())


def random_tokens(size: str) -> np.ndarray:
    """One batch of [B, T + 1] token ids."""
    _, _, _, vocab, length, batch = SIZES[size]
    return np.random.default_rng(0).integers(0, vocab, (batch, length + 1)).astype(np.int32)


def jax_worker(size: str, unroll: bool) -> None:
    """Serve the JAX training step, with the process settings of the command line."""
    from jax_transformer.cli.process import prepare

    prepare()
    import jax

    from jax_transformer.models import abstract_model, build_model
    from jax_transformer.nn.params import get_params, param_specs
    from jax_transformer.train.optimizer import build_optimizer
    from jax_transformer.train.schedule import dropout_scale
    from jax_transformer.train.step import StepSettings, make_train_step

    c, train = model_config(size, unroll), config.Train(steps=1000, batch_size=1)
    skeleton = abstract_model(c)
    optimizer = build_optimizer(train.optimizer, param_specs(skeleton), 1e-3, 1.0)
    settings = StepSettings(0, 1, dropout_scale(train), segmented=False)
    step = jax.jit(make_train_step(skeleton, optimizer, settings), donate_argnums=0)
    params = get_params(build_model(c))
    state = {"params": params, "opt_state": optimizer.init(params), "step": np.int32(0)}
    tokens = random_tokens(size)
    batch = {"tokens": tokens, "segments": np.ones_like(tokens)}

    def work() -> None:
        nonlocal state
        for _ in range(STEPS[size]):
            state, _ = step(state, batch)
        jax.block_until_ready(state)

    serve(work)


def torch_worker(size: str, compiled: bool) -> None:
    """Serve the torch training step: the same model, loss, clipping and optimizer, with torch's fused AdamW."""
    import torch

    from torch_reference.models import build_model
    from torch_reference.ops.loss import cross_entropy

    model = build_model(model_config(size, unroll=False))
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.from_numpy(random_tokens(size)).long()
    weights = torch.ones(tokens.shape[0], tokens.shape[1] - 1)

    def work() -> None:
        for _ in range(STEPS[size]):
            optimizer.zero_grad()
            logits, _ = forward(tokens[:, :-1])
            (cross_entropy(logits, tokens[:, 1:], weights) / weights.numel()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    serve(work)


def peak_worker() -> None:
    """Serve one large float32 matrix multiplication."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((PEAK_DIM, PEAK_DIM), jnp.float32)
    product = jax.jit(jnp.dot)
    serve(lambda: product(a, a).block_until_ready())


WORKERS = {
    "jax": partial(jax_worker, unroll=True),
    "jax-scan": partial(jax_worker, unroll=False),
    "torch": partial(torch_worker, compiled=False),
    "torch-compile": partial(torch_worker, compiled=True),
    "peak": lambda size: peak_worker(),
}


def report(size: str, rounds: int) -> None:
    """Measure one size and print its table."""
    from jax_transformer import count_parameters

    seconds = measure({name: (__file__, "--size", size, "--worker", name) for name in WORKERS}, rounds)
    peak = 2 * PEAK_DIM**3 / seconds.pop("peak")
    _, _, _, _, length, batch = SIZES[size]
    parameters = count_parameters(model_config(size, unroll=False))
    print(f"\n{size}: {parameters:,} parameters, {batch} x {length} tokens, {rounds} rounds, peak {peak / 1e9:.0f} GFLOP/s")
    print(f"{'':15}{'ms/step':>9}{'of peak':>9}{'jax/this':>10}{'scan/this':>11}")
    for name, taken in seconds.items():
        step = taken / STEPS[size]
        flops = 6 * parameters * batch * length / step
        ratios = f"{seconds['jax'] / taken:10.2f}{seconds['jax-scan'] / taken:11.2f}"
        print(f"{name:15}{1e3 * step:9.1f}{flops / peak:9.0%}{ratios}", flush=True)


def main() -> None:
    """Run the benchmark, or one contestant of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[*SIZES, "all"], default="small")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--worker", choices=list(WORKERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        WORKERS[arguments.worker](arguments.size)
        return
    for size in SIZES if arguments.size == "all" else (arguments.size,):
        report(size, arguments.rounds)


if __name__ == "__main__":
    main()
