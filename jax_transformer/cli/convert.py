"""``jax-transformer convert``."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A run folder or an exported checkpoint.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Folder to write; PyTorch and JAX both open it.")],
    dtype: Annotated[
        Literal["float64", "float32", "bfloat16", "float16"] | None,
        typer.Option(help="Cast the weights. Default: as stored.", show_default=False),
    ] = None,
) -> None:
    """Export a run or recast a checkpoint.

    Writes a run's best weights, or another checkpoint's, as config.json, model.safetensors and tokenizer.json.

    Example: jax-transformer convert runs/quickstart exported --dtype bfloat16
    """
    from jax_transformer.cli.process import enable_float64

    enable_float64()  # a conversion may read or write any dtype
    from jax_transformer.convert.pretrained import convert as convert_weights

    convert_weights(source, target, dtype)
    typer.echo(f"written: {target}")
