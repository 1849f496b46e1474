"""The command ``jax-transformer``: one file per verb. No framework is imported before a verb has read its config."""

import sys

from jax_transformer.config.errors import UserError


def main() -> None:
    """Run the command line; an error the user can mend is printed without a traceback and exits with status 2."""
    from jax_transformer.cli.app import app

    try:
        app(prog_name="jax-transformer")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
