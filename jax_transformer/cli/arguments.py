"""Arguments that several verbs share."""

from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH=VALUE", help="Changes to the config, as in train.learning_rate=1e-3.", show_default=False),
]
