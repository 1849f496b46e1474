"""``jax-transformer inspect``."""

import math
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from jax_transformer.cli.arguments import Overrides

_HEADER = ("JAX parameter", "shape", "dtype", "parameters", "PyTorch parameter", "shape")


def inspect(
    target: Annotated[str, typer.Argument(metavar="FOLDER_OR_CONFIG", help="File, folder or preset, as in mini_tiny.")],
    overrides: Overrides = None,
) -> None:
    """List a model's parameters.

    Shape, dtype and size of each, and its name in JAX and in PyTorch; no weights are made or read.

    Example: jax-transformer inspect mini_small
    """
    from jax_transformer.cli.process import prepare
    from jax_transformer.config.load import load_config
    from jax_transformer.config.run import Run

    config = load_config(target, overrides or [])
    model = config.model if isinstance(config, Run) else config
    prepare(model)
    from jax_transformer.convert.layout import entries_by_param
    from jax_transformer.models import abstract_model
    from jax_transformer.nn.params import param_specs

    specs = param_specs(abstract_model(model))
    rows = []
    for path, entries in entries_by_param(specs).items():
        spec, first = specs[path], entries[0]
        name = first.hub_name if len(entries) == 1 else f"{first.hub_name} and {len(entries) - 1} more"
        rows.append((path, _shape(spec.shape), str(spec.dtype), f"{math.prod(spec.shape):,}", name, _shape(first.shape)))
    total = sum(math.prod(spec.shape) for spec in specs.values())
    size = sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in specs.values())
    typer.echo("\n".join(_table([_HEADER, *rows])))
    typer.echo(f"\n{total:,} parameters, {size / 2**20:,.1f} MiB")


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
