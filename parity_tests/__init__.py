"""The proof that ``jax_transformer`` and ``torch_reference`` compute the same numbers, as a reusable suite."""
