"""Tokens and text out of a model: sampling, the decoding loop, and in ``text`` prompts and folders."""

from torch_reference.generate.engine import generate, stream

__all__ = ["generate", "stream"]
