"""Compile time of the training step against depth.

    python scripts/bench_compile.py

Lowers and compiles the same step for 6 and for 48 layers of one width, in turns, and prints the medians and their ratio.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp

from jax_transformer import config
from jax_transformer.models import abstract_model
from jax_transformer.nn.params import get_params, param_specs
from jax_transformer.train.optimizer import build_optimizer
from jax_transformer.train.schedule import dropout_scale
from jax_transformer.train.step import StepSettings, make_train_step


def compile_seconds(num_layers: int) -> float:
    """Seconds to trace, lower and compile a training step, with nothing cached."""
    block = config.Block(
        attention=config.Softmax(num_heads=4, head_dim=32), ffn=config.Glu(hidden_dim=352), norm=config.RMSNorm()
    )
    stack = config.Stack(pattern=(block,), num_layers=num_layers)
    c = config.Decoder(vocab_size=512, d_model=128, max_length=128, stack=stack, final_norm=config.RMSNorm())
    train = config.Train(steps=1000, batch_size=8)
    skeleton = abstract_model(c)
    params = get_params(skeleton)
    optimizer = build_optimizer(train.optimizer, param_specs(skeleton), 1e-3, 1.0)
    state = {
        "params": params,
        "opt_state": jax.eval_shape(optimizer.init, params),
        "step": jax.ShapeDtypeStruct((), jnp.int32),
    }
    batch = {name: jax.ShapeDtypeStruct((8, 129), jnp.int32) for name in ("tokens", "segments")}
    step = make_train_step(skeleton, optimizer, StepSettings(0, 1, dropout_scale(train), segmented=False))
    jax.clear_caches()
    start = time.perf_counter()
    jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depths", type=int, nargs=2, default=(6, 48))
    arguments = parser.parse_args()
    times: dict[int, list[float]] = {depth: [] for depth in arguments.depths}
    for _ in range(arguments.rounds):
        for depth, values in times.items():
            values.append(compile_seconds(depth))
    medians = {depth: statistics.median(values) for depth, values in times.items()}
    for depth, seconds in medians.items():
        print(f"{depth:3} layers: {seconds:.2f} s")
    shallow, deep = medians.values()
    print(f"ratio: {deep / shallow:.2f}")


if __name__ == "__main__":
    main()
