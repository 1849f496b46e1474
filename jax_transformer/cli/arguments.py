"""Arguments that several verbs share."""

from typing import Annotated, Literal

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH=VALUE", help="Changes to the config, as in train.learning_rate=1e-3.", show_default=False),
]

Step = Annotated[str, typer.Option(help="Which checkpoint of a run: best, latest or a step.")]

Cast = Annotated[
    Literal["float64", "float32", "bfloat16", "float16"] | None,
    typer.Option(help="Cast the weights. Default: as stored.", show_default=False),
]

Dequantize = Annotated[bool, typer.Option("--dequantize", help="Multiply quantised GGUF tensors out to float32.")]


def parse_step(step: str) -> int | Literal["latest", "best"]:
    """What ``--step`` names. Raises CheckpointError where that is nothing."""
    from jax_transformer.config.errors import CheckpointError

    if step == "best" or step == "latest":
        return step
    if not step.isdecimal():
        raise CheckpointError(f"--step {step}: wanted best, latest or the number of a step")
    return int(step)
