"""Whole models, built from their config."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jax_transformer import config
from jax_transformer.config.errors import ConfigError
from jax_transformer.models.decoder import Decoder
from jax_transformer.models.encoder import Encoder
from jax_transformer.models.encoder_decoder import EncoderDecoder
from jax_transformer.nn.params import param_specs

MODEL: dict[type[config.Config], Callable[..., Any]] = {
    config.Decoder: Decoder,
    config.Encoder: Encoder,
    config.EncoderDecoder: EncoderDecoder,
}


def build_model(c: config.Model | config.Run, seed: int = 0) -> Any:
    """The model of a config, with initial values drawn from ``seed``."""
    return _build(_model_config(c), jax.random.key(seed))


def abstract_model(c: config.Model | config.Run) -> Any:
    """The same model with shapes and dtypes in place of arrays."""
    return jax.eval_shape(partial(_build, _model_config(c)), jax.eval_shape(lambda: jax.random.key(0)))


def count_parameters(c: config.Model | config.Run) -> int:
    """Number of parameters, tied ones once; makes no arrays."""
    return sum(math.prod(spec.shape) for spec in param_specs(abstract_model(c)).values())


def _build(c: config.Model, key: jax.Array) -> Any:
    return MODEL[type(c)](c, key)


def _model_config(c: config.Model | config.Run) -> config.Model:
    c = c.model if isinstance(c, config.Run) else c
    wide = [name for name in ("param", "compute", "logits") if getattr(c.dtype, name) == "float64"]
    if wide and not jax.config.read("jax_enable_x64"):
        raise ConfigError(
            f"dtype.{wide[0]}=float64 needs 64-bit mode, which JAX would otherwise silently reduce to float32: "
            'call jax.config.update("jax_enable_x64", True) first'
        )
    return c
