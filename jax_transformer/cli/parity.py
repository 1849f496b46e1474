"""``jax-transformer parity``."""

from pathlib import Path
from typing import Annotated

import typer

from jax_transformer.cli.arguments import Overrides


def parity(
    target: Annotated[str, typer.Argument(metavar="CONFIG_OR_CHECKPOINT", help="File, folder or preset, as in mini_tiny.")],
    overrides: Overrides = None,
    json: Annotated[Path | None, typer.Option(help="Also write every figure to this file.", show_default=False)] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps to compare.")] = 3,
) -> None:
    """Prove that JAX and PyTorch agree.

    Compares activations, gradients, optimizer steps and decoding, and names the first tensor that leaves its error budget.

    Example: jax-transformer parity mini_tiny stack.num_layers=2
    """
    from jax_transformer.cli.process import enable_float64, prepare
    from jax_transformer.config.load import load_config

    load_config(target, overrides or [])  # a mistake in the config is reported before two frameworks are imported
    enable_float64()
    prepare()
    from parity_tests.ladder import main as run_ladder

    raise typer.Exit(run_ladder(target, overrides or [], json, steps))
