"""Recomputing activations in the backward pass changes no gradient, not even of a layer that drops values at random."""

from typing import get_args

import jax
import numpy as np
import pytest
import torch

from jax_transformer import config
from jax_transformer.config.block import Remat
from jax_transformer.models import build_model
from jax_transformer.nn.params import get_params, with_params
from jax_transformer.ops.dropout import Noise
from parity_tests.tolerances import FLOAT64, relative_error
from torch_reference.models import build_model as build_torch_model
from torch_reference.ops.dropout import Noise as TorchNoise

TOKENS = np.array([[3, 1, 4, 1, 5], [2, 6, 5, 3, 5]])


def decoder(remat: Remat) -> config.Decoder:
    attention = config.Softmax(num_heads=2, head_dim=4, dropout=0.3)
    block = config.Block(attention=attention, ffn=config.Mlp(hidden_dim=5), norm=config.RMSNorm(), dropout=0.3)
    stack = config.Stack(pattern=(block,), num_layers=3, drop_path=0.3, remat=remat)
    dtype = config.Dtype(param="float64", compute="float64", logits="float64")
    return config.Decoder(
        vocab_size=7,
        d_model=6,
        max_length=5,
        stack=stack,
        final_norm=config.RMSNorm(),
        embedding=config.Embedding(dropout=0.3),
        dtype=dtype,
    )


def jax_gradients(remat: Remat) -> list[np.ndarray]:
    model, noise = build_model(decoder(remat)), Noise(jax.random.key(3))
    loss = jax.jit(jax.grad(lambda params: (with_params(model, params)(TOKENS, noise=noise)[0] ** 2).sum()))
    return list(loss(get_params(model)).values())


def torch_gradients(remat: Remat) -> list[np.ndarray]:
    model = build_torch_model(decoder(remat))
    (model(TOKENS, noise=TorchNoise(torch.tensor(3)))[0] ** 2).sum().backward()
    return [parameter.grad.numpy() for parameter in model.parameters()]


@pytest.mark.parametrize("gradients", [jax_gradients, torch_gradients])
def test_gradients_are_those_without_recomputation(gradients):
    kept = gradients("none")
    for remat in set(get_args(Remat)) - {"none"}:
        for recomputed, want in zip(gradients(remat), kept, strict=True):
            assert relative_error(recomputed, want) <= FLOAT64
