"""``jax-transformer inspect``."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jax_transformer.cli.arguments import Overrides

_HEADER = ("JAX parameter", "shape", "dtype", "parameters", "PyTorch parameter", "shape")
_THEIRS = ("tensor in the file", "shape")

Theirs = Callable[[str], dict[str, tuple[int, ...]]]
"""Hub name -> the tensors of a Hugging Face file that hold it."""


def inspect(
    target: Annotated[str, typer.Argument(metavar="FOLDER_OR_CONFIG", help="File, folder or preset, as in mini_tiny.")],
    overrides: Overrides = None,
    every: Annotated[bool, typer.Option("--all", help="A line for every tensor of every layer and expert.")] = False,
) -> None:
    """List a model's parameters.

    Shape, dtype and size of each, and its name in JAX and in PyTorch; of a checkpoint of Hugging Face or a GGUF file also its
    name there. No weights are made or read.

    Example: jax-transformer inspect mini_small
    """
    from jax_transformer.cli.process import prepare
    from jax_transformer.cli.target import read_model
    from jax_transformer.convert import gguf, hf

    model = read_model(target, overrides or [])
    prepare(model)
    from jax_transformer.convert.pretrained import open_pretrained
    from jax_transformer.models import abstract_model
    from jax_transformer.nn.params import param_specs

    theirs = None
    if hf.is_hf(target) or gguf.is_gguf(target):
        model, view = open_pretrained(Path(target), dequantize=gguf.is_gguf(target))
        theirs = view.stored if isinstance(view, hf.HubView) else None
    specs = param_specs(abstract_model(model))
    header = _HEADER if theirs is None else _HEADER + _THEIRS
    typer.echo("\n".join(_table([header, *(_all_rows if every else _rows)(specs, theirs)])))
    total = sum(math.prod(spec.shape) for spec in specs.values())
    size = sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in specs.values())
    typer.echo(f"\n{total:,} parameters, {size / 2**20:,.1f} MiB")


def _rows(specs: dict[str, Any], theirs: Theirs | None) -> Iterable[tuple[str, ...]]:
    """A line for each parameter of JAX, which holds that of several layers."""
    from jax_transformer.convert.layout import entries_by_param

    for path, entries in entries_by_param(specs).items():
        spec, first = specs[path], entries[0]
        row = (path, _shape(spec.shape), str(spec.dtype), f"{math.prod(spec.shape):,}")
        row += _several([entry.hub_name for entry in entries]), _shape(first.shape)
        if theirs is not None:
            stored = {name: shape for entry in entries for name, shape in theirs(entry.hub_name).items()}
            row += _several(list(stored)), _shape(next(iter(stored.values())))
        yield row


def _all_rows(specs: dict[str, Any], theirs: Theirs | None) -> Iterable[tuple[str, ...]]:
    """A line for each tensor of the file, or of PyTorch where there is none; ``[i]`` is the part of JAX's that it is."""
    from jax_transformer.convert.layout import hub_entries

    for entry in hub_entries(specs):
        path, shape = entry.jax_path, specs[entry.jax_path].shape
        if entry.index is not None:
            path, shape = f"{path}[{entry.index}]", shape[1:]
        row = (path, _shape(shape), str(entry.dtype), f"{math.prod(shape):,}", entry.hub_name, _shape(entry.shape))
        if theirs is None:
            yield row
        else:
            yield from ((*row, name, _shape(size)) for name, size in theirs(entry.hub_name).items())


def _several(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
