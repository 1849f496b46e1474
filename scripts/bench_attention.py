"""The forms of attention against one another: where ``auto`` changes from one to the next.

    python scripts/bench_attention.py

One forward and backward pass of 8 query heads over 2 key heads of 64 dimensions, 4096 tokens in rows of each length, float32,
in turns; prints the median milliseconds of each form that the length and the window allow.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jax_transformer import config
from jax_transformer.nn.attention.kernel import attend
from jax_transformer.ops.mask import causal_mask

TOKENS, HEADS, KV_HEADS, HEAD_DIM = 4096, 8, 2, 64
FORMS = ("reference", "blockwise", "windowed")


def contestant(form: config.Form, length: int, window: int | None) -> Callable[[], None]:
    """One pass, compiled and warmed up."""
    c = config.Softmax(num_heads=HEADS, num_kv_heads=KV_HEADS, head_dim=HEAD_DIM, window=window, implementation=form)
    shapes = [(TOKENS // length, length, heads, HEAD_DIM) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    given = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
    mask = causal_mask(length)
    step = jax.jit(jax.grad(lambda q, k, v: jnp.sum(jnp.sin(attend(c, q, k, v, mask))), argnums=(0, 1, 2)))

    def work() -> None:
        jax.block_until_ready(step(*given))

    work()
    return work


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--lengths", type=int, nargs="+", default=(128, 256, 512, 1024, 2048))
    parser.add_argument("--windows", type=int, nargs="+", default=(0, 32, 64, 128, 256), help="0: none")
    arguments = parser.parse_args()
    print(f"{'length':>6} {'window':>6} " + " ".join(f"{form:>10}" for form in FORMS))
    for length in arguments.lengths:
        for window in (window for window in arguments.windows if window < length):
            forms = FORMS if window else FORMS[:2]
            passes = {form: contestant(form, length, window or None) for form in forms}
            times: dict[str, list[float]] = {form: [] for form in forms}
            for _ in range(arguments.rounds):
                for form, work in passes.items():
                    start = time.perf_counter()
                    work()
                    times[form].append(time.perf_counter() - start)
            cells = [f"{1e3 * statistics.median(times[form]):10.1f}" if form in times else " " * 10 for form in FORMS]
            print(f"{length:6} {window:6} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    main()
