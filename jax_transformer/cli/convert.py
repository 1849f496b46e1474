"""``jax-transformer convert``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jax_transformer.cli.arguments import Cast, Dequantize, Step, parse_step


def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A run or a checkpoint: ours, Hugging Face's, GGUF.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Folder or .gguf file to write.")],
    dtype: Cast = None,
    step: Step = "best",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace TARGET if it exists.")] = False,
    format: Annotated[
        Literal["exchange", "hf", "gguf"] | None,
        typer.Option(help="What to write. Default: gguf for TARGET.gguf, else ours.", show_default=False),
    ] = None,
    family: Annotated[str | None, typer.Option(help="Of hf or gguf. Default: first that fits.", show_default=False)] = None,
    training: Annotated[bool, typer.Option("--training", help="With the optimizer: a run to a folder, or back.")] = False,
    dequantize: Dequantize = False,
) -> None:
    """Export a run, or recast or convert a checkpoint.

    Writes the weights of a run or of another checkpoint, ours, Hugging Face's or llama.cpp's, with its tokenizer.

    Examples: jax-transformer convert runs/quickstart exported --dtype bfloat16;
    jax-transformer convert exported for_others --format hf; jax-transformer convert exported model.gguf
    """
    from jax_transformer.cli.process import enable_float64
    from jax_transformer.config.errors import ConfigError

    if family is not None and format not in ("hf", "gguf") and (format or target.suffix != ".gguf"):
        raise ConfigError(f"--family {family}: only --format hf and gguf have families; give both or none")
    enable_float64()  # a conversion may read or write any dtype
    if training:
        if dtype is not None or overwrite or dequantize:
            raise ConfigError("--training moves a state as it is: leave --dtype, --overwrite and --dequantize out")
        if format == "gguf":
            raise ConfigError("--format gguf: a GGUF file has no place for moments; wanted exchange or hf with --training")
        typer.echo(_move_training(source, target, parse_step(step), format or "exchange", family))
        return
    from jax_transformer.convert.pretrained import convert as convert_weights

    options = {"step": parse_step(step), "overwrite": overwrite, "dequantize": dequantize}
    convert_weights(source, target, dtype, format=format, family=family, **options)
    typer.echo(f"written: {target}")


def _move_training(
    source: Path, target: Path, step: int | Literal["latest", "best"], format: Literal["exchange", "hf"], family: str | None
) -> str:
    from jax_transformer.convert.training_folder import PROGRESS
    from jax_transformer.train.exchange import export_training, import_training

    if (source / PROGRESS).is_file():
        progress = import_training(source, target)
        return f"committed step {progress.step} in {target}; train --resume continues from it"
    progress = export_training(source, target, step, format, family)
    return f"written: {target}, step {progress.step}"
