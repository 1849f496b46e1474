"""Tokens and text out of a model: sampling, the decoding loop, and in ``text`` prompts and folders."""

from jax_transformer.generate.engine import generate, stream

__all__ = ["generate", "stream"]
