"""``jax-transformer verify``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jax_transformer.cli.arguments import Dequantize, Step, parse_step


def verify(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run, or a checkpoint: ours, Hugging Face's, GGUF.")],
    b: Annotated[Path | None, typer.Argument(metavar="[B]", help="Another. Default: A itself.", show_default=False)] = None,
    frameworks: Annotated[
        tuple[str, str] | None,
        typer.Option(help="What computes A and what B: jax, torch or transformers. Default: jax torch.", show_default=False),
    ] = None,
    dtype: Annotated[Literal["float32", "float64"], typer.Option(help="The dtype that both compute in.")] = "float32",
    step: Step = "best",
    longest: Annotated[int, typer.Option(min=1, help="Tokens of the longest row.")] = 4352,
    dequantize: Dequantize = False,
    seed: Annotated[int, typer.Option(help="Draws the tokens.")] = 0,
    report: Annotated[Path | None, typer.Option(help="Also write the certificate, JSON.", show_default=False)] = None,
) -> None:
    """Prove that two checkpoints are the same model.

    Compares names, shapes, dtypes and bytes of all tensors, the logits at three lengths, and decoding through a cache. With A
    alone: the same checkpoint in two frameworks. Exits with 1 where a check fails.

    Example: jax-transformer verify Qwen3-0.6B mine --report certificate.json
    """
    from jax_transformer.cli.process import enable_float64, prepare

    chosen = parse_step(step)
    _check_folders(a, b or a)
    enable_float64()  # any dtype may be stored
    prepare()
    from rich.console import Console

    from jax_transformer.verify.certificate import print_certificate
    from jax_transformer.verify.run import Question, default_frameworks
    from jax_transformer.verify.run import verify as compare

    question = Question(frameworks or default_frameworks(alone=b is None), dtype, chosen, longest, seed, dequantize)
    certificate = compare(a, b or a, question)
    print_certificate(certificate, Console(width=None if typer.get_text_stream("stdout").isatty() else 120))
    if report is not None:
        certificate.write(report)
    raise typer.Exit(0 if certificate.passed else 1)


def _check_folders(*folders: Path) -> None:
    from jax_transformer.config.errors import WeightsError
    from jax_transformer.convert.gguf import is_gguf

    for folder in folders:
        if not ((folder / "checkpoints").is_dir() or (folder / "config.json").is_file() or is_gguf(folder)):
            raise WeightsError(
                f"{folder}: no GGUF file, and has neither checkpoints/ (a run folder) nor config.json (a folder of weights)"
            )
