"""Whole models, built from their config."""

from collections.abc import Callable
from typing import Any

import torch

from jax_transformer import config
from torch_reference.models.decoder import Decoder
from torch_reference.models.encoder import Encoder
from torch_reference.models.encoder_decoder import EncoderDecoder

MODEL: dict[type[config.Config], Callable[..., Any]] = {
    config.Decoder: Decoder,
    config.Encoder: Encoder,
    config.EncoderDecoder: EncoderDecoder,
}


def build_model(c: config.Model | config.Run, seed: int = 0) -> Any:
    """The model of a config, with initial values drawn from ``seed``, on torch's default device.

    The values have the distribution of the JAX package's; the numbers differ.
    """
    c = c.model if isinstance(c, config.Run) else c
    return MODEL[type(c)](c, torch.Generator("cpu").manual_seed(seed))


def abstract_model(c: config.Model | config.Run) -> Any:
    """The same model on the meta device: shapes and dtypes in place of values."""
    with torch.device("meta"):
        return build_model(c)


def count_parameters(c: config.Model | config.Run) -> int:
    """Number of parameters, tied ones once; makes no tensors."""
    return sum(parameter.numel() for parameter in abstract_model(c).parameters())
