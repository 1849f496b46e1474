"""The forms of attention against one another: where ``auto`` changes from one to the next.

    python scripts/bench_attention.py

One forward and backward pass of 8 query heads over 2 key heads of 64 dimensions, 4096 tokens in rows of each length, float32,
in turns; prints the median milliseconds of each form that the length and the window allow.
"""

import argparse

from interleave import measure, serve

TOKENS, HEADS, KV_HEADS, HEAD_DIM = 4096, 8, 2, 64
FORMS = ("reference", "blockwise", "windowed")


def worker(form: str, length: int, window: int | None) -> None:
    """Serve one pass of one form."""
    import jax
    import jax.numpy as jnp

    from jax_transformer import config
    from jax_transformer.nn.attention.kernel import attend
    from jax_transformer.ops.mask import causal_mask

    sizes = {"num_heads": HEADS, "num_kv_heads": KV_HEADS, "head_dim": HEAD_DIM}
    c = config.Softmax.model_validate({**sizes, "window": window, "implementation": form})
    shapes = [(TOKENS // length, length, heads, HEAD_DIM) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    given = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
    mask = causal_mask(length)
    step = jax.jit(jax.grad(lambda q, k, v: jnp.sum(jnp.sin(attend(c, q, k, v, mask))), argnums=(0, 1, 2)))
    serve(lambda: jax.block_until_ready(step(*given)))


def main() -> None:
    """Print the table, or serve as one contestant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--lengths", type=int, nargs="+", default=(128, 256, 512, 1024, 2048))
    parser.add_argument("--windows", type=int, nargs="+", default=(0, 32, 64, 128, 256), help="0: none")
    parser.add_argument("--worker", choices=FORMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker, arguments.lengths[0], arguments.windows[0] or None)
        return
    print(f"{'length':>6} {'window':>6} " + " ".join(f"{form:>10}" for form in FORMS))
    for length in arguments.lengths:
        for window in (window for window in arguments.windows if window < length):
            sizes = ("--lengths", str(length), "--windows", str(window))
            forms = FORMS if window else FORMS[:2]
            seconds = measure({form: (__file__, *sizes, "--worker", form) for form in forms}, arguments.rounds)
            cells = [f"{1e3 * seconds[form]:10.1f}" if form in seconds else " " * 10 for form in FORMS]
            print(f"{length:6} {window:6} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    main()
