"""Parts of drawn configs that need no other part: mixers of linear time, scalings of rotary frequencies."""

from collections.abc import Callable, Sequence
from typing import Any

from jax_transformer import config as c

Pick = Callable[[Sequence[Any]], Any]
"""Chooses one of several options: ``random.Random(seed).choice``, or a hypothesis draw from ``sampled_from``."""


def draw_linear(pick: Pick) -> c.Linear:
    """A linear attention; in every form that both directions have."""
    num_heads = pick((1, 2, 3, 6))
    return c.Linear(
        num_heads=num_heads,
        num_kv_heads=pick((None, *(heads for heads in (1, 2, 3) if num_heads % heads == 0))),
        head_dim=pick((2, 5)),
        v_dim=pick((None, 3)),
        qkv_bias=pick((False, True)),
        o_bias=pick((False, True)),
        eps=pick((1e-8, 0.1)),
        chunk=pick((64, 1, 4)),
        implementation=pick(("auto", "reference", "chunked")),
    )


def draw_gated_delta(pick: Pick) -> c.GatedDelta:
    """A Gated DeltaNet."""
    key_heads = pick((1, 2))
    return c.GatedDelta(
        num_key_heads=key_heads,
        num_value_heads=key_heads * pick((1, 2, 3)),
        key_dim=pick((2, 5)),
        v_dim=pick((3, 4)),
        conv_width=pick((4, 2, 3)),
        norm=c.RMSNorm(eps=pick((1e-6, 1e-2)), weight=pick(("scale", "one_plus", "none"))),
        allow_neg_eigval=pick((False, True)),
        l2_eps=pick((1e-6, 1e-2)),
        chunk=pick((64, 1, 4)),
        implementation=pick(("auto", "recurrent", "chunked")),
    )


def draw_scaling(pick: Pick, pairs: int) -> c.RopeScaling | None:
    """A scaling of so many rotated pairs, or none."""
    factor, original = pick((2.0, 4.0)), pick((4, 6, 30))
    options: list[c.RopeScaling | None] = [
        None,
        None,
        c.LinearScaling(factor=factor),
        c.YarnScaling(factor=factor, original_length=original, beta_fast=pick((32.0, 1.5)), truncate=pick((True, False))),
        c.Llama3Scaling(factor=factor, original_length=original),
        c.LongRopeScaling(
            factor=factor,
            original_length=original,
            short_factors=tuple(1.0 + 0.3 * i for i in range(pairs)),
            long_factors=tuple(1.5 + i for i in range(pairs)),
        ),
    ]
    if pairs > 1:
        options += [c.NtkScaling(factor=factor), c.DynamicNtkScaling(factor=factor, original_length=original)]
    return pick(options)
