"""Whole models, built from their config."""

import torch

from jax_transformer import config
from torch_reference.models.decoder import Decoder

MODEL = {config.Decoder: Decoder}


def build_model(c: config.Model | config.Run, seed: int = 0) -> Decoder:
    """The model of a config, with initial values drawn from ``seed``, on torch's default device.

    The values have the distribution of the JAX package's; the numbers differ.
    """
    c = c.model if isinstance(c, config.Run) else c
    return MODEL[type(c)](c, torch.Generator("cpu").manual_seed(seed))


def abstract_model(c: config.Model | config.Run) -> Decoder:
    """The same model on the meta device: shapes and dtypes in place of values."""
    with torch.device("meta"):
        return build_model(c)


def count_parameters(c: config.Model | config.Run) -> int:
    """Number of parameters, tied ones once; makes no tensors."""
    return sum(parameter.numel() for parameter in abstract_model(c).parameters())
