"""``python -m jax_transformer`` is the command ``jax-transformer``."""

from jax_transformer.cli import main

if __name__ == "__main__":
    main()
