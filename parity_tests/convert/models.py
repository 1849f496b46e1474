"""Small models for exchange folders: two kinds of block, a remainder, every optional parameter."""

import jax
import numpy as np

from jax_transformer import config
from jax_transformer.models import abstract_model
from jax_transformer.nn.params import get_params, param_specs, with_params


def tiny(tied=False, dtype="float32", layers=5):
    """Two kinds of block, a remainder, every optional parameter, and no two equal widths."""
    norms = config.RMSNorm(), config.LayerNorm(bias=True)
    attention = config.Softmax(num_heads=4, num_kv_heads=2, head_dim=6, qkv_bias=True, o_bias=True)
    ffns = config.Glu(hidden_dim=11), config.Mlp(hidden_dim=13, bias=True)
    pattern = tuple(config.Block(attention=attention, ffn=ffn, norm=norm) for ffn, norm in zip(ffns, norms, strict=True))
    return config.Decoder(
        vocab_size=17,
        d_model=10,
        max_length=16,
        stack=config.Stack(pattern=pattern, num_layers=layers),
        final_norm=norms[1],
        head=config.Head(tied=tied, bias=not tied),
        dtype=config.Dtype(param=dtype),
    )


def jax_model(c, seed=0):
    """A model of random finite bit patterns: every sign, exponent and subnormal of the dtype."""
    rng = np.random.default_rng(seed)
    model = abstract_model(c)
    params = {}
    for path, spec in param_specs(model).items():
        bits = rng.integers(0, 256, (*spec.shape, spec.dtype.itemsize), np.uint8).view(spec.dtype).reshape(spec.shape)
        with np.errstate(invalid="ignore"):
            bits[~np.isfinite(bits)] = 1
        params[path] = jax.numpy.asarray(bits)
    return with_params(model, params)


def normal_model(c):
    """A model of ordinary values, which survive casts and a forward pass."""
    rng = np.random.default_rng(0)
    model = abstract_model(c)
    specs = param_specs(model)
    return with_params(
        model, {path: jax.numpy.asarray(rng.normal(size=spec.shape), spec.dtype) for path, spec in specs.items()}
    )


def assert_same_model(a, b):
    left, right = get_params(a), get_params(b)
    assert left.keys() == right.keys()
    for path in left:
        assert left[path].dtype == right[path].dtype, path
        assert np.asarray(left[path]).tobytes() == np.asarray(right[path]).tobytes(), path
    assert a.config == b.config
