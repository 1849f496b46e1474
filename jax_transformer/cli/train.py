"""``jax-transformer train``."""

from pathlib import Path
from typing import Annotated

import typer

from jax_transformer.cli.arguments import Overrides


def train(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A run or model config: file, folder or preset, as in quickstart.")
    ],
    overrides: Overrides = None,
    folder: Annotated[
        Path | None, typer.Option(help="Run folder. Default: runs/ and the config's name.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest good checkpoint in the folder.")] = False,
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Address of process 0, when several processes train together.")
    ] = None,
    num_processes: Annotated[int | None, typer.Option(min=1, help="How many processes train together.")] = None,
    process_id: Annotated[int | None, typer.Option(min=0, help="The number of this one, from 0.")] = None,
) -> None:
    """Train a model from a config.

    The run folder gets checkpoints, metrics, the loss curve and the exported weights. Ctrl-C saves and stops.

    Example: jax-transformer train quickstart train.steps=200 --folder runs/first
    """
    from jax_transformer.cli.process import join_processes, prepare
    from jax_transformer.config.load import load_run

    run = load_run(config, overrides or [])
    folder = folder or Path("runs") / Path(config).stem
    prepare(run.model)
    join_processes(coordinator, num_processes, process_id)
    from jax_transformer.train.loop import train as run_training

    result = run_training(run, folder, resume=resume)
    if result.exit_code:
        typer.echo(f"stopped after step {result.step} of {run.train.steps}; the same command with --resume continues", err=True)
        raise typer.Exit(result.exit_code)
    typer.echo(f"run folder: {folder}")
