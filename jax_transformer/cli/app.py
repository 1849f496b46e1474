"""The verbs and their shared arguments."""

import typer

from jax_transformer.cli.convert import convert
from jax_transformer.cli.generate import generate
from jax_transformer.cli.inspect import inspect
from jax_transformer.cli.parity import parity
from jax_transformer.cli.train import train
from jax_transformer.cli.verify import verify

app = typer.Typer(
    help="Train transformers in JAX, open them in PyTorch, and prove that both compute the same numbers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for verb in (train, generate, convert, parity, verify, inspect):
    app.command()(verb)
