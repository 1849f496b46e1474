"""``jax-transformer convert``."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A run folder, an exported or Hugging Face checkpoint, a GGUF file.")
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Folder to write; PyTorch and JAX both open it.")],
    dtype: Annotated[
        Literal["float64", "float32", "bfloat16", "float16"] | None,
        typer.Option(help="Cast the weights. Default: as stored.", show_default=False),
    ] = None,
    step: Annotated[str, typer.Option(help="Which checkpoint of a run: best, latest or a step.")] = "best",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace TARGET if it exists.")] = False,
    format: Annotated[
        Literal["exchange", "hf"], typer.Option(help="What to write: our format, or that of Hugging Face.")
    ] = "exchange",
    family: Annotated[
        str | None, typer.Option(help="Family of --format hf. Default: the first that fits.", show_default=False)
    ] = None,
    dequantize: Annotated[
        bool, typer.Option("--dequantize", help="Multiply quantised tensors of a GGUF file out to float32.")
    ] = False,
) -> None:
    """Export a run, or recast or convert a checkpoint.

    Writes the weights of a run or of another checkpoint, ours, Hugging Face's or llama.cpp's, with its tokenizer.

    Examples: jax-transformer convert runs/quickstart exported --dtype bfloat16;
    jax-transformer convert exported for_others --format hf
    """
    from jax_transformer.cli.process import enable_float64
    from jax_transformer.config.errors import ConfigError

    if family is not None and format != "hf":
        raise ConfigError(f"--family {family}: only --format hf has families; give both or none")
    enable_float64()  # a conversion may read or write any dtype
    from jax_transformer.convert.pretrained import convert as convert_weights

    options = {"overwrite": overwrite, "dequantize": dequantize}
    convert_weights(source, target, dtype, step=_chosen(step), format=format, family=family, **options)
    typer.echo(f"written: {target}")


def _chosen(step: str) -> int | Literal["latest", "best"]:
    from jax_transformer.config.errors import CheckpointError

    if step.isdecimal():
        return int(step)
    if step == "best" or step == "latest":
        return step
    raise CheckpointError(f"--step {step}: wanted best, latest or the number of a step")
